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
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
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
