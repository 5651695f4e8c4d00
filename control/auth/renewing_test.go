package auth

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"
)

// A renewal that fails must neither end the service nor be tried at each
// handshake.
func TestRenewalFails(t *testing.T) {
	c, asked := newClock(), 0
	var failure error
	r := &renewing{now: c.now, issue: func() (*tls.Certificate, error) {
		asked++
		return &tls.Certificate{}, failure
	}}
	first, err := r.get(nil)
	if err != nil || asked != 1 {
		t.Fatalf("asked %d times, %v", asked, err)
	}
	failure = errors.New("disk full")
	for _, step := range []struct {
		after time.Duration
		asked int
	}{{renewalAge - time.Second, 1}, {2 * time.Second, 2}, {time.Second, 2}, {retryRenewal, 3}} {
		c.t = c.t.Add(step.after)
		got, err := r.get(nil)
		if err != nil || got != first || asked != step.asked {
			t.Fatalf("after %v: asked %d times, want %d; %v", step.after, asked, step.asked, err)
		}
	}
	failure = nil
	c.t = c.t.Add(retryRenewal)
	if got, err := r.get(nil); err != nil || got == first {
		t.Fatalf("not renewed once the disk is well again: %v", err)
	}
}
