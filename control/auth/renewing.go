package auth

import (
	"crypto/tls"
	"sync"
	"time"
)

// renewing holds a serving certificate and asks for the next one once a day,
// which is answered from the disk until the certificate's end comes near.
type renewing struct {
	now   func() time.Time
	issue func() (*tls.Certificate, error)

	mu      sync.Mutex
	current *tls.Certificate
	askedAt time.Time
}

func (r *renewing) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.now().Sub(r.askedAt) < 24*time.Hour {
		return r.current, nil
	}
	next, err := r.issue()
	switch {
	case err == nil:
		r.current, r.askedAt = next, r.now()
	case r.current == nil:
		return nil, err
	}
	// A renewal that fails leaves months to repair the cause.
	return r.current, nil
}
