package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// deletedGrace is how long after its deletion a pod's token is still good, as
// in Kubernetes: the pod may need it to end in order.
const deletedGrace = 60 * time.Second

// Issuer issues and checks the tokens of service accounts. It implements
// auth.TokenAuthenticator.
type Issuer struct {
	keys   *Keys
	now    func() time.Time
	client api.Client
}

// NewIssuer returns an Issuer that signs with the keys. Follow comes before
// the first request.
func NewIssuer(keys *Keys, now func() time.Time) *Issuer { return &Issuer{keys: keys, now: now} }

// Follow makes the Issuer look up what tokens are bound to through a client.
func (i *Issuer) Follow(c api.Client) { i.client = c }

// reference is an object that a token is bound to.
type reference struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

type private struct {
	Namespace      string     `json:"namespace,omitempty"`
	Node           *reference `json:"node,omitempty"`
	Pod            *reference `json:"pod,omitempty"`
	Secret         *reference `json:"secret,omitempty"`
	ServiceAccount reference  `json:"serviceaccount"`
}

// claims are what a service account's token says. Times are seconds since 1970.
type claims struct {
	Audience  audience `json:"aud"`
	Expires   int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	Issuer    string   `json:"iss"`
	ID        string   `json:"jti"`
	Private   private  `json:"kubernetes.io"`
	NotBefore int64    `json:"nbf"`
	Subject   string   `json:"sub"`
}

// legacyClaims are those of a token that lives in a Secret and has no end.
type legacyClaims struct {
	Issuer    string    `json:"iss"`
	Subject   string    `json:"sub"`
	Namespace string    `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string    `json:"kubernetes.io/serviceaccount/secret.name"`
	Account   string    `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       types.UID `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// legacyIssuer is the issuer of tokens without an end.
const legacyIssuer = "kubernetes/serviceaccount"

// LegacyToken issues the token for a Secret of type
// kubernetes.io/service-account-token: good as long as the Secret is there.
func (i *Issuer) LegacyToken(account *corev1.ServiceAccount, secret string) (string, error) {
	return sign(i.keys.signing, i.keys.id, legacyClaims{Issuer: legacyIssuer, Subject: auth.ServiceAccountUser(account.Namespace, account.Name),
		Namespace: account.Namespace, Secret: secret, Account: account.Name, UID: account.UID})
}

// Request answers POST serviceaccounts/x/token: request, which has been
// validated, with a token in its status.
func (i *Issuer) Request(ctx context.Context, account *corev1.ServiceAccount, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out := request.DeepCopy()
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = []string{auth.ServerAudience}
	}
	now := i.now()
	expires := now.Add(time.Duration(*out.Spec.ExpirationSeconds) * time.Second)
	c := claims{Audience: out.Spec.Audiences, IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: expires.Unix(),
		Issuer: auth.ServerAudience, ID: uuid.NewString(), Subject: auth.ServiceAccountUser(account.Namespace, account.Name),
		Private: private{Namespace: account.Namespace, ServiceAccount: reference{account.Name, account.UID}}}
	if ref := out.Spec.BoundObjectRef; ref != nil {
		if err := i.bind(ctx, account, ref, &c.Private); err != nil {
			return nil, err
		}
	}
	token, err := sign(i.keys.signing, i.keys.id, c)
	if err != nil {
		return nil, err
	}
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires.Truncate(time.Second))}
	return out, nil
}

// bind fills in what a token is to be bound to.
func (i *Issuer) bind(ctx context.Context, account *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference, into *private) error {
	var res api.Resource
	switch {
	case ref.Kind == "Pod" && ref.APIVersion == "v1":
		res = api.Pods
	case ref.Kind == "Secret" && ref.APIVersion == "v1":
		res = api.Secrets
	case ref.Kind == "Node" && ref.APIVersion == "v1":
		res = api.Nodes
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", metav1.GroupVersionKind{Version: ref.APIVersion, Kind: ref.Kind}.String()))
	}
	obj, err := i.client.Get(ctx, res.Key(account.Namespace, ref.Name), api.GetOptions{})
	if err != nil {
		return err
	}
	if ref.UID != "" && ref.UID != obj.GetUID() {
		return apierrors.NewConflict(res.GroupResource(), ref.Name, fmt.Errorf(
			"the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	bound := &reference{obj.GetName(), obj.GetUID()}
	switch o := obj.(type) {
	case *corev1.Pod:
		if o.Spec.ServiceAccountName != account.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
		}
		into.Pod = bound
		if o.Spec.NodeName != "" {
			into.Node = &reference{Name: o.Spec.NodeName}
			if node, err := i.client.Get(ctx, api.Nodes.Key("", o.Spec.NodeName), api.GetOptions{}); err == nil {
				into.Node.UID = node.GetUID()
			}
		}
	case *corev1.Secret:
		into.Secret = bound
	default:
		into.Node = bound
	}
	return nil
}

// AuthenticateToken implements auth.TokenAuthenticator. A token of another
// issuer is not known here; one of ours that is not good is an error.
func (i *Issuer) AuthenticateToken(ctx context.Context, token string, audiences []string) (auth.User, []string, bool, error) {
	head, payload, signed, signature, err := split(token)
	if err != nil {
		return auth.User{}, nil, false, nil
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil || c.Issuer != auth.ServerAudience && c.Issuer != legacyIssuer {
		return auth.User{}, nil, false, nil
	}
	key, ok := i.keys.public[head.KeyID]
	if !ok {
		return auth.User{}, nil, false, errors.New("the token is signed with a key that is not the cluster's")
	}
	if err := verify(head.Algorithm, key, signed, signature); err != nil {
		return auth.User{}, nil, false, err
	}
	if len(audiences) == 0 {
		audiences = []string{auth.ServerAudience}
	}
	var u auth.User
	meant := []string(c.Audience)
	if c.Issuer == legacyIssuer {
		meant = []string{auth.ServerAudience}
		u, err = i.legacyUser(ctx, payload, token)
	} else {
		u, err = i.user(ctx, &c)
	}
	if err != nil {
		return auth.User{}, nil, false, err
	}
	meant = slices.DeleteFunc(slices.Clone(audiences), func(a string) bool { return !slices.Contains(meant, a) })
	if len(meant) == 0 {
		return auth.User{}, nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string(c.Audience), audiences)
	}
	return u, meant, true, nil
}

// user checks that a token is in its time and that all it is bound to is
// still there.
func (i *Issuer) user(ctx context.Context, c *claims) (auth.User, error) {
	now := i.now()
	if now.Unix() >= c.Expires {
		return auth.User{}, errors.New("service account token has expired")
	}
	if now.Add(time.Minute).Unix() < c.NotBefore { // clocks differ
		return auth.User{}, errors.New("service account token is not valid yet")
	}
	p := c.Private
	if c.Subject != auth.ServiceAccountUser(p.Namespace, p.ServiceAccount.Name) {
		return auth.User{}, errors.New("the token's subject is not its service account")
	}
	for _, bound := range []struct {
		res api.Resource
		ref *reference
	}{{api.ServiceAccounts, &p.ServiceAccount}, {api.Pods, p.Pod}, {api.Secrets, p.Secret}, {api.Nodes, p.onlyNode()}} {
		if bound.ref == nil {
			continue
		}
		if err := i.alive(ctx, bound.res, p.Namespace, *bound.ref); err != nil {
			return auth.User{}, err
		}
	}
	u := accountUser(p.Namespace, p.ServiceAccount)
	u.Extra = map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=" + c.ID}}
	if p.Pod != nil {
		u.Extra["authentication.kubernetes.io/pod-name"] = []string{p.Pod.Name}
		u.Extra["authentication.kubernetes.io/pod-uid"] = []string{string(p.Pod.UID)}
	}
	if p.Node != nil {
		u.Extra[auth.NodeNameExtra] = []string{p.Node.Name}
		if p.Node.UID != "" {
			u.Extra["authentication.kubernetes.io/node-uid"] = []string{string(p.Node.UID)}
		}
	}
	return u, nil
}

// onlyNode is the node of a token that is bound to it, not to a pod on it.
func (p private) onlyNode() *reference {
	if p.Pod != nil {
		return nil
	}
	return p.Node
}

// alive wants an object to be there with the uid, and not deleted long ago.
func (i *Issuer) alive(ctx context.Context, res api.Resource, namespace string, ref reference) error {
	gone := fmt.Errorf("%s %q of the service account token has been deleted", res.Singular, ref.Name)
	obj, err := i.client.Get(ctx, res.Key(namespace, ref.Name), api.GetOptions{})
	if apierrors.IsNotFound(err) {
		return gone
	}
	if err != nil {
		return fmt.Errorf("look up what a token is bound to: %w", err)
	}
	deleted := obj.GetDeletionTimestamp()
	if obj.GetUID() != ref.UID || deleted != nil && i.now().After(deleted.Add(deletedGrace)) {
		return gone
	}
	return nil
}

func accountUser(namespace string, account reference) auth.User {
	return auth.User{Name: auth.ServiceAccountUser(namespace, account.Name), UID: string(account.UID),
		Groups: []string{auth.GroupServiceAccounts, auth.GroupServiceAccounts + ":" + namespace}}
}

// legacyUser checks a token without an end: its Secret must hold it.
func (i *Issuer) legacyUser(ctx context.Context, payload []byte, token string) (auth.User, error) {
	var c legacyClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return auth.User{}, errMalformed
	}
	account := reference{c.Account, c.UID}
	if err := i.alive(ctx, api.ServiceAccounts, c.Namespace, account); err != nil {
		return auth.User{}, err
	}
	secret, err := api.Get[*corev1.Secret](ctx, i.client, api.Secrets.Key(c.Namespace, c.Secret))
	if err != nil || secret.DeletionTimestamp != nil || string(secret.Data[corev1.ServiceAccountTokenKey]) != token {
		return auth.User{}, errors.New("the Secret of the service account token has been deleted")
	}
	return accountUser(c.Namespace, account), nil
}

// The paths of discovery, as OpenID Connect and Kubernetes have them.
const (
	configurationPath = "/.well-known/openid-configuration"
	keysPath          = "/openid/v1/jwks"
)

// Discovery returns what answers clients that want to check the cluster's
// tokens by themselves, by path. server is where they reach the API server.
func (i *Issuer) Discovery(server string) (map[string]http.Handler, error) {
	configuration, err := json.Marshal(map[string]any{
		"issuer": auth.ServerAudience, "jwks_uri": server + keysPath, "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	})
	if err != nil {
		return nil, fmt.Errorf("publish the token issuer: %w", err)
	}
	keys, err := i.keys.JWKS()
	if err != nil {
		return nil, err
	}
	serve := func(contentType string, data []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(data)
		})
	}
	return map[string]http.Handler{
		configurationPath: serve("application/json", configuration),
		keysPath:          serve("application/jwk-set+json", keys),
	}, nil
}
