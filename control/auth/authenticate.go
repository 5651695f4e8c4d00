package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Authenticator finds out who sends a request. ok is false when the request
// carries no credentials of the kind that this one judges; an error means that
// it does and that they are bad.
type Authenticator interface {
	Authenticate(r *http.Request) (u User, ok bool, err error)
}

// Chain asks each authenticator in turn. The first that knows the sender
// decides. Whoever is known belongs to system:authenticated; a request without
// credentials that one of them understands is from system:anonymous; bad ones
// are an error, never anonymous.
func Chain(all ...Authenticator) Authenticator { return chain(all) }

type chain []Authenticator

func (c chain) Authenticate(r *http.Request) (User, bool, error) {
	var failed error
	for _, a := range c {
		u, ok, err := a.Authenticate(r)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if ok {
			if !u.In(GroupAuthenticated) {
				u.Groups = append(slices.Clip(u.Groups), GroupAuthenticated)
			}
			return u, true, nil
		}
	}
	if failed != nil {
		return User{}, false, failed
	}
	return Anonymous(), true, nil
}

// maxVerified bounds the memory for certificates seen before.
const maxVerified = 4096

// ClientCertificates authenticates by TLS client certificates: the user is the
// common name, the groups are the organizations.
type ClientCertificates struct {
	roots *x509.CertPool
	now   func() time.Time

	// A check of signatures costs more than many requests do; a connection has
	// the same certificate all the time, and package tls gives the connections
	// of one client the same pointer. A hash would cost as much as a small read.
	mu       sync.Mutex
	verified map[*x509.Certificate]verified
}

type verified struct {
	user  User
	until time.Time
}

// NewClientCertificates trusts certificates that are signed by the pool's
// authorities for client authentication.
func NewClientCertificates(roots *x509.CertPool, now func() time.Time) *ClientCertificates {
	return &ClientCertificates{roots: roots, now: now, verified: map[*x509.Certificate]verified{}}
}

// Authenticate implements Authenticator.
func (c *ClientCertificates) Authenticate(r *http.Request) (User, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return User{}, false, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	c.mu.Lock()
	known, ok := c.verified[leaf]
	c.mu.Unlock()
	if ok && c.now().Before(known.until) {
		return known.user, true, nil
	}
	intermediates := x509.NewCertPool()
	for _, cert := range r.TLS.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: intermediates, CurrentTime: c.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return User{}, false, fmt.Errorf("client certificate of %q: %w", leaf.Subject.CommonName, err)
	}
	if leaf.Subject.CommonName == "" {
		return User{}, false, errors.New("client certificate without a common name")
	}
	u := User{Name: leaf.Subject.CommonName, Groups: slices.Clone(leaf.Subject.Organization),
		Extra: map[string][]string{CredentialIDExtra: {fmt.Sprintf("X509SHA256=%x", sha256.Sum256(leaf.Raw))}}}
	until := leaf.NotAfter
	for _, cert := range chains[0] {
		until = earlier(until, cert.NotAfter)
	}
	c.mu.Lock()
	if len(c.verified) >= maxVerified {
		clear(c.verified)
	}
	c.verified[leaf] = verified{user: u, until: until}
	c.mu.Unlock()
	return u, true, nil
}

// ErrAnonymous: a request without credentials where none may come without.
var ErrAnonymous = errors.New("requests without credentials are not let in")

// Restrict refuses anonymous requests to paths that let says no to.
func Restrict(a Authenticator, let func(path string) bool) Authenticator { return restricted{a, let} }

type restricted struct {
	Authenticator
	let func(path string) bool
}

func (x restricted) Authenticate(r *http.Request) (User, bool, error) {
	u, ok, err := x.Authenticator.Authenticate(r)
	if ok && err == nil && u.In(GroupUnauthenticated) && !x.let(r.URL.Path) {
		return User{}, false, ErrAnonymous
	}
	return u, ok, err
}
