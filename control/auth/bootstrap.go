package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// A bootstrap token is "id.secret"; it lives in a Secret of kube-system as
// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
// says.
const (
	bootstrapType   = corev1.SecretTypeBootstrapToken
	bootstrapSecret = "bootstrap-token-" // and the id
	bootstrapUser   = "system:bootstrap:"

	tokenID          = "token-id"
	tokenSecret      = "token-secret"
	tokenExpiration  = "expiration"
	tokenDescription = "description"
	tokenUsage       = "usage-bootstrap-" // and authentication or signing
	tokenGroups      = "auth-extra-groups"

	// ClusterInfoName is the ConfigMap of kube-public that tells whoever wants
	// to join where the cluster is and what its authority is.
	ClusterInfoName = "cluster-info"
	// ClusterInfoKubeconfig is the key of its kubeconfig; ClusterInfoSignature
	// and a token's id the key of that token's signature of it.
	ClusterInfoKubeconfig = "kubeconfig"
	ClusterInfoSignature  = "jws-kubeconfig-"
)

var (
	tokenPattern = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	groupPattern = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// BootstrapToken lets a node join, or somebody else prove once that they were
// let in.
type BootstrapToken struct {
	ID, Secret  string
	Description string
	Expires     time.Time // zero: never
	Groups      []string  // beyond system:bootstrappers, below it
	// Usages: "authentication", "signing".
	Usages []string
}

// NewBootstrapToken draws a token that may be used for both.
func NewBootstrapToken(expires time.Time, description string) (BootstrapToken, error) {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	draw := func(n int) (string, error) {
		out := make([]byte, 0, n)
		for len(out) < n {
			var b [1]byte
			if _, err := rand.Read(b[:]); err != nil {
				return "", fmt.Errorf("draw a token: %w", err)
			}
			// 252 is the largest multiple of 36 in a byte: no letter is likelier than another.
			if b[0] < 252 {
				out = append(out, alphabet[b[0]%36])
			}
		}
		return string(out), nil
	}
	id, err := draw(6)
	if err != nil {
		return BootstrapToken{}, err
	}
	secret, err := draw(16)
	return BootstrapToken{ID: id, Secret: secret, Description: description, Expires: expires,
		Usages: []string{"authentication", "signing"}}, err
}

// ParseBootstrapToken reads "id.secret".
func ParseBootstrapToken(text string) (BootstrapToken, error) {
	parts := tokenPattern.FindStringSubmatch(text)
	if parts == nil {
		return BootstrapToken{}, errors.New("a bootstrap token is 6 and 16 lower-case letters or digits with a dot between")
	}
	return BootstrapToken{ID: parts[1], Secret: parts[2]}, nil
}

// String renders "id.secret".
func (t BootstrapToken) String() string { return t.ID + "." + t.Secret }

// Object is the Secret that makes the token valid.
func (t BootstrapToken) Object() *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: bootstrapSecret + t.ID},
		Type: bootstrapType, Data: map[string][]byte{tokenID: []byte(t.ID), tokenSecret: []byte(t.Secret)}}
	for _, usage := range t.Usages {
		s.Data[tokenUsage+usage] = []byte("true")
	}
	if t.Description != "" {
		s.Data[tokenDescription] = []byte(t.Description)
	}
	if !t.Expires.IsZero() {
		s.Data[tokenExpiration] = []byte(t.Expires.UTC().Format(time.RFC3339))
	}
	if len(t.Groups) > 0 {
		s.Data[tokenGroups] = []byte(strings.Join(t.Groups, ","))
	}
	return s
}

// BootstrapTokenOf reads a token's Secret. The error says what is wrong with it
// and never contains the secret.
func BootstrapTokenOf(s *corev1.Secret) (BootstrapToken, error) {
	t := BootstrapToken{ID: string(s.Data[tokenID]), Secret: string(s.Data[tokenSecret]), Description: string(s.Data[tokenDescription])}
	if s.Type != bootstrapType || s.Name != bootstrapSecret+t.ID || !tokenPattern.MatchString(t.String()) {
		return t, fmt.Errorf("secret %s/%s is no bootstrap token", s.Namespace, s.Name)
	}
	if text := string(s.Data[tokenExpiration]); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return t, fmt.Errorf("secret %s/%s: expiration is no RFC 3339 time", s.Namespace, s.Name)
		}
		t.Expires = at
	}
	for _, usage := range []string{"authentication", "signing"} {
		if string(s.Data[tokenUsage+usage]) == "true" {
			t.Usages = append(t.Usages, usage)
		}
	}
	if text := string(s.Data[tokenGroups]); text != "" {
		for group := range strings.SplitSeq(text, ",") {
			if !groupPattern.MatchString(group) {
				return t, fmt.Errorf("secret %s/%s: group %q does not begin with %q", s.Namespace, s.Name, group, "system:bootstrappers:")
			}
			t.Groups = append(t.Groups, group)
		}
	}
	return t, nil
}

// Expired tells whether the token is past its time.
func (t BootstrapToken) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// SignClusterInfo signs a kubeconfig with the token: a detached JWS (RFC 7515)
// by HMAC-SHA256, which only somebody who has the token can make or check.
func (t BootstrapToken) SignClusterInfo(kubeconfig string) string {
	encode := base64.RawURLEncoding.EncodeToString
	header := encode(fmt.Appendf(nil, `{"alg":"HS256","kid":%q}`, t.ID))
	mac := hmac.New(sha256.New, []byte(t.Secret))
	mac.Write([]byte(header + "." + encode([]byte(kubeconfig))))
	return header + ".." + encode(mac.Sum(nil))
}

// VerifyClusterInfo returns the kubeconfig of a cluster-info ConfigMap that was
// read from somebody unknown, if the cluster that the token belongs to has
// signed it: then its certificate authority can be trusted.
func (t BootstrapToken) VerifyClusterInfo(info *corev1.ConfigMap) (kubeconfig string, err error) {
	kubeconfig = info.Data[ClusterInfoKubeconfig]
	given, ok := info.Data[ClusterInfoSignature+t.ID]
	if !ok || kubeconfig == "" {
		return "", fmt.Errorf("the cluster has not signed its %s with token %s: the token is unknown there, has expired, or may not be used for signing", ClusterInfoName, t.ID)
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(t.SignClusterInfo(kubeconfig))) != 1 {
		return "", fmt.Errorf("the signature of token %s does not fit: the token's secret is wrong, or something between here and the cluster changes the answer", t.ID)
	}
	return kubeconfig, nil
}

// BootstrapTokens knows whose bootstrap tokens are. It implements
// TokenAuthenticator.
type BootstrapTokens struct {
	Client api.Client
	Now    func() time.Time
}

// AuthenticateToken implements TokenAuthenticator.
func (b BootstrapTokens) AuthenticateToken(ctx context.Context, token string, audiences []string) (User, []string, bool, error) {
	given, err := ParseBootstrapToken(token)
	if err != nil {
		return User{}, nil, false, nil // a token of another kind
	}
	secret, err := api.Get[*corev1.Secret](ctx, b.Client, api.Secrets.Key(metav1.NamespaceSystem, bootstrapSecret+given.ID))
	if apierrors.IsNotFound(err) {
		return User{}, nil, false, nil
	}
	if err != nil {
		return User{}, nil, false, fmt.Errorf("look up the bootstrap token: %w", err)
	}
	kept, err := BootstrapTokenOf(secret)
	switch {
	case err != nil || secret.DeletionTimestamp != nil,
		subtle.ConstantTimeCompare([]byte(kept.Secret), []byte(given.Secret)) != 1,
		kept.Expired(b.Now()),
		!slices.Contains(kept.Usages, "authentication"),
		len(audiences) > 0 && !slices.ContainsFunc(audiences, isServerAudience):
		return User{}, nil, false, nil
	}
	u := User{Name: bootstrapUser + kept.ID, Groups: append([]string{GroupBootstrappers}, kept.Groups...)}
	return u, slices.DeleteFunc(slices.Clone(audiences), func(a string) bool { return !isServerAudience(a) }), true, nil
}
