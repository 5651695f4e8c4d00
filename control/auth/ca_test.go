package auth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{t: time.Now()} }

func mustCA(t *testing.T, dir string, c *clock) *CA {
	t.Helper()
	ca, err := OpenCA(dir, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func leaf(t *testing.T, cred Credential) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(cred.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCAIsKept(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	first := mustCA(t, dir, c)
	second := mustCA(t, dir, c)
	if first.ID() != second.ID() || string(first.PEM()) != string(second.PEM()) {
		t.Fatal("the authority changed between two opens")
	}
	if other := mustCA(t, t.TempDir(), c); other.ID() == first.ID() {
		t.Fatal("two authorities have one id")
	}
	if life := first.cert.NotAfter.Sub(c.t); life < 9*365*24*time.Hour {
		t.Fatalf("the authority lives for %v", life)
	}
	if runtime.GOOS != "windows" {
		info, err := os.Stat(filepath.Join(dir, "ca.key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("mode of the key: %v, %v", info.Mode(), err)
		}
	}
}

func TestCARefusesDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"no key":      func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "ca.key")) },
		"foreign key": func(t *testing.T, dir string) { foreignKey(t, dir) },
		"cut short":   func(t *testing.T, dir string) { write(t, filepath.Join(dir, "ca.crt"), "-----BEGIN") },
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := t.TempDir(), newClock()
			mustCA(t, dir, c)
			damage(t, dir)
			if _, err := OpenCA(dir, c.now); err == nil || !strings.Contains(err.Error(), "restore") {
				t.Fatalf("error %v does not say what to do", err)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		dir, c := t.TempDir(), newClock()
		mustCA(t, dir, c)
		c.t = c.t.Add(11 * 365 * 24 * time.Hour)
		if _, err := OpenCA(dir, c.now); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("key alone is replaced", func(t *testing.T) {
		dir, c := t.TempDir(), newClock()
		mustCA(t, dir, c)
		remove(t, filepath.Join(dir, "ca.crt"))
		mustCA(t, dir, c)
	})
}

func foreignKey(t *testing.T, dir string) {
	other := t.TempDir()
	mustCA(t, other, newClock())
	key, err := os.ReadFile(filepath.Join(other, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.key"), string(key))
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestServingIsReissued(t *testing.T) {
	c := newClock()
	ca := mustCA(t, t.TempDir(), c)
	issue := func(sans ...string) *x509.Certificate {
		cred, err := ca.Serving("apiserver", sans)
		if err != nil {
			t.Fatal(err)
		}
		return leaf(t, cred)
	}
	first := issue("localhost", "127.0.0.1")
	if again := issue("127.0.0.1", "localhost"); !again.Equal(first) {
		t.Error("the same names in another order gave a new certificate")
	}
	more := issue("localhost", "127.0.0.1", "10.0.0.1", "node.example")
	if more.Equal(first) || more.VerifyHostname("10.0.0.1") != nil || more.VerifyHostname("node.example") != nil {
		t.Error("new names are not in the certificate")
	}
	c.t = c.t.Add(certLifetime - renewBefore + time.Hour)
	if late := issue("localhost", "127.0.0.1", "10.0.0.1", "node.example"); late.Equal(more) {
		t.Error("a certificate near its end was not renewed")
	}
}

func TestClientCertificateNames(t *testing.T) {
	ca := mustCA(t, t.TempDir(), newClock())
	cred, err := ca.Client(NodeUser("Node-1"))
	if err != nil {
		t.Fatal(err)
	}
	subject := leaf(t, cred).Subject
	if subject.CommonName != "system:node:Node-1" || !slices.Equal(subject.Organization, []string{GroupNodes}) {
		t.Fatalf("subject %v", subject)
	}
	again, err := ca.Client(NodeUser("Node-1"))
	if err != nil || string(again.Cert) != string(cred.Cert) {
		t.Fatalf("not kept: %v", err)
	}
	// A name that differs in case only shares the file, never the certificate.
	other, err := ca.Client(NodeUser("node-1"))
	if err != nil || leaf(t, other).Subject.CommonName != "system:node:node-1" {
		t.Fatalf("got %v, %v", leaf(t, other).Subject, err)
	}
	if _, err := ca.Client(User{}); err == nil {
		t.Fatal("a certificate for nobody")
	}
}

// TestHandshake goes through real TLS: who has a certificate is known, who has
// none is anonymous, who has a foreign one is refused by the authenticator.
func TestHandshake(t *testing.T) {
	c := newClock()
	ca, foreign := mustCA(t, t.TempDir(), c), mustCA(t, t.TempDir(), c)
	authn := Chain(NewClientCertificates(ca.Pool(), c.now))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _, err := authn.Authenticate(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(u.Name + " " + strings.Join(u.Groups, ",")))
	}))
	config, err := ca.ServerTLS("test", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = tls.NewListener(server.Listener, config)
	server.Start()
	defer server.Close()
	url := "https://" + server.Listener.Addr().String()
	for _, test := range []struct {
		name string
		from *CA
		user User
		code int
		want string
	}{
		{"admin", ca, Admin(), 200, "kubernetes-admin system:masters,system:authenticated"},
		{"node", ca, NodeUser("a"), 200, "system:node:a system:nodes,system:authenticated"},
		{"nobody", nil, User{}, 200, "system:anonymous system:unauthenticated"},
		{"foreign", foreign, Admin(), 401, "client certificate of"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := &tls.Config{RootCAs: ca.Pool()}
			if test.from != nil {
				cred, err := test.from.Client(test.user)
				if err != nil {
					t.Fatal(err)
				}
				pair, err := cred.TLS()
				if err != nil {
					t.Fatal(err)
				}
				// Sent whatever authorities the server names.
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
			for range 2 { // the second time from the cache
				got, code := fetch(t, url, client)
				if code != test.code || !strings.Contains(got, test.want) {
					t.Fatalf("got %d %q, want %d %q", code, got, test.code, test.want)
				}
			}
		})
	}
}

func TestExpiredClientCertificate(t *testing.T) {
	c := newClock()
	ca := mustCA(t, t.TempDir(), c)
	cred, err := ca.Client(Admin())
	if err != nil {
		t.Fatal(err)
	}
	authn := NewClientCertificates(ca.Pool(), c.now)
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf(t, cred)}}
	if _, ok, err := authn.Authenticate(r); !ok || err != nil {
		t.Fatalf("fresh certificate: %v %v", ok, err)
	}
	c.t = c.t.Add(certLifetime + time.Hour)
	if _, ok, err := authn.Authenticate(r); ok || err == nil {
		t.Fatal("an expired certificate that was seen before is still accepted")
	}
}

func TestChainRefusesUnknownTokens(t *testing.T) {
	ca := mustCA(t, t.TempDir(), newClock())
	r := httptest.NewRequest("GET", "/", nil)
	chain := Chain(NewClientCertificates(ca.Pool(), time.Now), Bearer(Tokens{}))
	r.Header.Set("Authorization", "Bearer secret")
	if u, ok, err := chain.Authenticate(r); err == nil {
		t.Fatalf("a token that nobody knows made %v %v", u, ok)
	}
	for _, none := range []string{"Bearer ", "Basic YTpi"} { // not credentials of any kind that is known
		r.Header.Set("Authorization", none)
		if u, ok, err := chain.Authenticate(r); !ok || err != nil || u.Name != AnonymousUser {
			t.Errorf("%q made %v %v %v", none, u, ok, err)
		}
	}
}
