package auth

import (
	"crypto/tls"
	"sync"
	"time"
)

const (
	// renewalAge is how long a certificate is served before the next is asked for.
	renewalAge = 24 * time.Hour
	// retryRenewal is how long a renewal that failed is left alone.
	retryRenewal = 10 * time.Minute
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
	if r.current != nil && r.now().Sub(r.askedAt) < renewalAge {
		return r.current, nil
	}
	next, err := r.issue()
	switch {
	case err == nil:
		r.current, r.askedAt = next, r.now()
	case r.current == nil:
		return nil, err
	default:
		// A renewal that fails leaves months to repair the cause. Until the next
		// try handshakes do not wait for a disk that may be the cause.
		r.askedAt = r.now().Add(retryRenewal - renewalAge)
	}
	return r.current, nil
}
