package tokens

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/api/apitest"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// bed is the real registry with an Issuer behind it, at a time that the test
// moves.
type bed struct {
	*testing.T
	api    *registry.Registry
	issuer *Issuer
	now    time.Time
}

func newBed(t *testing.T) *bed {
	t.Helper()
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	s := store.New(store.NewMemory(), store.Options{})
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	keys, err := OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, now: time.Now()}
	clock := func() time.Time { return b.now }
	b.issuer = NewIssuer(keys, clock)
	if b.api, err = registry.New(registry.Config{Store: s, Types: types, Tokens: b.issuer, Now: clock}); err != nil {
		t.Fatal(err)
	}
	b.issuer.Follow(b.api)
	if err := b.api.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	b.create(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: named("robot")})
	b.create(api.Pods, &corev1.Pod{ObjectMeta: named("web"), Spec: corev1.PodSpec{ServiceAccountName: "robot",
		Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
	return b
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func (b *bed) create(res api.Resource, obj api.Object) api.Object {
	b.Helper()
	made, err := b.api.Create(b.Context(), res.KeyOf(obj), obj, api.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return made
}

func (b *bed) delete(key api.Key) {
	b.Helper()
	if _, err := b.api.Delete(b.Context(), key, api.DeleteOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) request(spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequest, error) {
	made, err := b.api.Create(b.Context(), api.ServiceAccounts.Key("default", "robot"), &authenticationv1.TokenRequest{Spec: spec},
		api.CreateOptions{Subresource: "token"})
	if err != nil {
		return nil, err
	}
	return made.(*authenticationv1.TokenRequest), nil
}

func (b *bed) token(bound *authenticationv1.BoundObjectReference, audiences ...string) string {
	b.Helper()
	answer, err := b.request(authenticationv1.TokenRequestSpec{Audiences: audiences, BoundObjectRef: bound})
	if err != nil {
		b.Fatal(err)
	}
	return answer.Status.Token
}

// good wants a token to be accepted; bad wants an error with a text.
func (b *bed) good(token string, audiences ...string) auth.User {
	b.Helper()
	u, _, ok, err := b.issuer.AuthenticateToken(b.Context(), token, audiences)
	if err != nil || !ok {
		b.Fatalf("refused: %v", err)
	}
	return u
}

func (b *bed) bad(token, want string, audiences ...string) {
	b.Helper()
	_, _, ok, err := b.issuer.AuthenticateToken(b.Context(), token, audiences)
	if ok || err == nil || !strings.Contains(err.Error(), want) {
		b.Errorf("accepted %v, error %v, want %q", ok, err, want)
	}
}

func TestBoundTokens(t *testing.T) {
	b := newBed(t)
	pod := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web"}
	token, free := b.token(pod), b.token(nil)
	u := b.good(token)
	if u.Name != "system:serviceaccount:default:robot" || !u.In("system:serviceaccounts:default") ||
		u.Extra["authentication.kubernetes.io/pod-name"][0] != "web" {
		t.Errorf("user %+v", u)
	}
	b.delete(api.Pods.Key("default", "web"))
	b.bad(token, `pod "web" of the service account token has been deleted`)
	b.good(free)
	b.create(api.Pods, &corev1.Pod{ObjectMeta: named("web"), Spec: corev1.PodSpec{ServiceAccountName: "robot",
		Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
	b.bad(token, "has been deleted") // another pod of the same name

	secret := b.create(api.Secrets, &corev1.Secret{ObjectMeta: named("s")})
	bound := b.token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: "s", UID: secret.GetUID()})
	b.good(bound)
	b.delete(api.Secrets.Key("default", "s"))
	b.bad(bound, `secret "s"`)

	b.now = b.now.Add(59 * time.Minute)
	b.good(free)
	b.now = b.now.Add(2 * time.Minute)
	b.bad(free, "expired")

	last := b.token(nil)
	b.delete(api.ServiceAccounts.Key("default", "robot"))
	b.bad(last, `serviceaccount "robot"`)
}

func TestRequestsAreChecked(t *testing.T) {
	b := newBed(t)
	b.create(api.Pods, &corev1.Pod{ObjectMeta: named("other"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
	short := int64(599)
	for what, test := range map[string]struct {
		spec authenticationv1.TokenRequestSpec
		is   func(error) bool
	}{
		"short":         {authenticationv1.TokenRequestSpec{ExpirationSeconds: &short}, apierrors.IsInvalid},
		"no such pod":   {authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "x"}}, apierrors.IsNotFound},
		"another's pod": {authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "other"}}, apierrors.IsBadRequest},
		"another uid":   {authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "1"}}, apierrors.IsConflict},
		"a config map":  {authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x"}}, apierrors.IsBadRequest},
	} {
		if _, err := b.request(test.spec); !test.is(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestForgedTokens(t *testing.T) {
	b := newBed(t)
	token := b.token(nil)
	parts := strings.Split(token, ".")
	encode := base64.RawURLEncoding.EncodeToString
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	b.bad(encode([]byte(`{"alg":"none","kid":"`+b.issuer.keys.id+`"}`))+"."+parts[1]+".", "not accepted")
	b.bad(encode([]byte(`{"alg":"HS256","kid":"`+b.issuer.keys.id+`"}`))+"."+parts[1]+"."+parts[2], "not accepted")
	b.bad(parts[0]+"."+encode([]byte(strings.Replace(string(payload), "robot", "admin", -1)))+"."+parts[2], "signature")
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	forged, err := sign(foreign, b.issuer.keys.id, c)
	if err != nil {
		t.Fatal(err)
	}
	b.bad(forged, "signature")
	unknown, err := sign(foreign, "unknown", c)
	if err != nil {
		t.Fatal(err)
	}
	b.bad(unknown, "not the cluster's")
	vault := b.token(nil, "vault")
	b.bad(vault, "audiences")
	b.good(vault, "vault", "other")
	for _, other := range []string{"", "a.b.c", "abcdef.0123456789abcdef", strings.Repeat("a.", 1<<20)} {
		if _, _, ok, err := b.issuer.AuthenticateToken(t.Context(), other, nil); ok || err != nil {
			t.Errorf("%.20q: %v %v, want a token that is not known here", other, ok, err)
		}
	}
}

func TestLegacyTokens(t *testing.T) {
	b := newBed(t)
	account, err := api.Get[*corev1.ServiceAccount](t.Context(), b.api, api.ServiceAccounts.Key("default", "robot"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := b.issuer.LegacyToken(account, "robot-token")
	if err != nil {
		t.Fatal(err)
	}
	b.bad(token, "has been deleted")
	b.create(api.Secrets, &corev1.Secret{ObjectMeta: named("robot-token"), Data: map[string][]byte{"token": []byte(token)}})
	b.good(token)
	b.delete(api.Secrets.Key("default", "robot-token"))
	b.bad(token, "has been deleted")
}

func FuzzSplit(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		var head header
		var signed string
		var err error
		apitest.Bounded(t, 1<<20+64*uint64(len(token)), func() { head, _, signed, _, err = split(token) })
		if err == nil && (!strings.HasPrefix(token, signed) || head.Algorithm == "none" && algorithms[head.Algorithm].size > 0) {
			t.Errorf("%q", token)
		}
	})
}
