package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// provider is an OpenID Connect issuer over TLS.
type provider struct {
	*testing.T
	*httptest.Server
	caFile string

	mu   sync.Mutex
	down bool
	keys map[string]crypto.Signer // that it publishes, by their ids
	lost chan struct{}            // gets an element per request while down
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{T: t, keys: map[string]crypto.Signer{}, lost: make(chan struct{}, 100)}
	p.Server = httptest.NewUnstartedServer(p)
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	p.caFile = filepath.Join(t.TempDir(), "ca.crt")
	p.write(p.caFile, p.bundle())
	p.rotate("one", newRSA(t))
	return p
}

func (p *provider) bundle() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

func (p *provider) write(file, text string) {
	p.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rotate makes a key the only one that is published.
func (p *provider) rotate(id string, key crypto.Signer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = map[string]crypto.Signer{id: key}
}

func (p *provider) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// ServeHTTP implements http.Handler.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		http.Error(w, "out for lunch", http.StatusServiceUnavailable)
		p.lost <- struct{}{}
		return
	}
	encode := base64.RawURLEncoding.EncodeToString
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	case "/keys":
		keys := []map[string]any{}
		for id, key := range p.keys {
			switch public := key.Public().(type) {
			case *rsa.PublicKey:
				keys = append(keys, map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
					"n": encode(public.N.Bytes()), "e": encode(big.NewInt(int64(public.E)).Bytes())})
			case *ecdsa.PublicKey:
				point, err := public.Bytes()
				if err != nil {
					p.Error(err)
				}
				keys = append(keys, map[string]any{"kty": "EC", "use": "sig", "alg": "ES256", "kid": id, "crv": "P-256",
					"x": encode(point[1:33]), "y": encode(point[33:])})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	default:
		http.NotFound(w, r)
	}
}

type object map[string]any

// token signs claims. What is not said is right: iss, aud, sub, exp.
func (p *provider) token(id string, key crypto.Signer, claims object) string {
	p.Helper()
	all := object{"iss": p.URL, "aud": "wherry", "sub": "jane", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	algorithm := "RS256"
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		algorithm = "ES256"
	}
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			p.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(object{"alg": algorithm, "kid": id}) + "." + part(all)
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k, sum[:]); err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	default:
		signature, err = key.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	if err != nil {
		p.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// key is the key that the provider publishes under an id.
func (p *provider) key(id string) crypto.Signer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[id]
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// patience bounds every wait; it says nothing about speed.
const patience = 2 * time.Minute

// run runs Issuers until the test ends and, unless the issuer is down, waits
// until they know its keys.
func run(t *testing.T, cfg Config) *Issuers {
	t.Helper()
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return i
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ready waits until the keys of the issuers are known.
func ready(t *testing.T, i *Issuers) *Issuers {
	t.Helper()
	eventually(t, "the issuers' keys", func() bool { return len(i.now.Load().issuers) > 0 && i.Health() == nil })
	return i
}
