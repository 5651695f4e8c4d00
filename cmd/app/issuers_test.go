package app_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/auth"
)

// TestIssuers: users of an OpenID Connect issuer, with kubectl. The scripts find
// tokens in the files that $TOKENS names.
func TestIssuers(t *testing.T) {
	issuer, sign := newIssuer(t)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	claims := func(name string, more map[string]any) map[string]any {
		all := map[string]any{"iss": issuer.URL, "aud": "wherry", "sub": name, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	write("jane", []byte(sign(claims("jane", map[string]any{"groups": []string{"dev", "system:masters"}}))))
	write("expired", []byte(sign(claims("jane", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}))))
	write("foreign", []byte(sign(claims("jane", map[string]any{"aud": "somebody"}))))
	ca := write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}))
	c := clustertest.New(t, clustertest.Nodes(0), func(c *app.Config) {
		s := &c.Issuers.Settings
		s.IssuerURL, s.ClientID, s.CAFile, s.UsernamePrefix, s.GroupsClaim, s.GroupsPrefix = issuer.URL, "wherry", ca, "oidc:", "groups", "oidc:"
	})
	runScripts(t, c, "testdata/issuers", "issuers", builtinKubectl(t), "TOKENS="+dir, "SERVER="+c.URL)
}

// TestIssuerInTheCluster: an issuer that is a Service is reached by its name,
// which the machine does not know.
func TestIssuerInTheCluster(t *testing.T) {
	issuer, sign := newIssuer(t)
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.ServerTLS("dex", []string{"dex.auth.svc"})
	if err != nil {
		t.Fatal(err)
	}
	var url string
	// Another front of the issuer, with the name and the certificate of the Service.
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			issuer.Config.Handler.ServeHTTP(w, r)
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, url, url+"/keys")
	}))
	front.TLS = serving
	front.StartTLS()
	t.Cleanup(front.Close)
	_, port, err := net.SplitHostPort(front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	url = "https://dex.auth.svc:" + port
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(bundle, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := clustertest.New(t, clustertest.Nodes(0), func(c *app.Config) {
		s := &c.Issuers.Settings
		s.IssuerURL, s.ClientID, s.CAFile, s.UsernamePrefix = url, "wherry", bundle, "oidc:"
	})
	set := c.Clientset()
	if _, err := set.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "auth"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := set.CoreV1().Services("auth").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "dex"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "127.0.0.1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Restart() // an issuer that was not there is asked again after ten seconds only
	token := sign(map[string]any{"iss": url, "aud": "wherry", "sub": "jane", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	jane := as(t, c, func(config *rest.Config) {
		config.BearerToken = token
	})
	untilNil(t, "jane is known", func() error {
		review, err := jane.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err == nil && review.Status.UserInfo.Username != "oidc:jane" {
			err = fmt.Errorf("she is %+v", review.Status.UserInfo)
		}
		return err
	})
}

// newIssuer starts an issuer over TLS. sign makes a token of claims.
func newIssuer(t *testing.T) (issuer *httptest.Server, sign func(claims map[string]any) string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	issuer = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"k","n":%q,"e":%q}]}`,
				encode(key.N.Bytes()), encode(big.NewInt(int64(key.E)).Bytes()))
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer.URL, issuer.URL+"/keys")
	}))
	t.Cleanup(issuer.Close)
	return issuer, func(claims map[string]any) string {
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		signed := encode([]byte(`{"alg":"RS256","kid":"k"}`)) + "." + encode(text)
		sum := sha256.Sum256([]byte(signed))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signed + "." + encode(signature)
	}
}
