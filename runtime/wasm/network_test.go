package wasm

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestWhenFree: an address that the system says is in use is waited for,
// nothing else is.
func TestWhenFree(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	l, err := whenFree(func() (net.Listener, error) {
		if tries++; tries == 3 {
			if err := held.Close(); err != nil {
				t.Error(err)
			}
		}
		return net.Listen("tcp", held.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if tries < 3 {
		t.Errorf("it was open after %d tries, before the other one was closed", tries)
	}
	for _, want := range []error{net.ErrClosed, syscall.EADDRINUSE} { // the latter of another container
		tries = 0
		_, err = whenFree(func() (net.Listener, error) {
			tries++
			return nil, want
		})
		if !errors.Is(err, want) || tries != 1 {
			t.Errorf("%d tries, and %v", tries, err)
		}
	}
}
