package wasm

import (
	"errors"
	"net"
	"testing"
)

// TestWhenFree: an address in use is waited for, nothing else is.
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
	tries = 0
	_, err = whenFree(func() (net.Listener, error) {
		tries++
		return nil, net.ErrClosed
	})
	if !errors.Is(err, net.ErrClosed) || tries != 1 {
		t.Errorf("%d tries, and %v", tries, err)
	}
}
