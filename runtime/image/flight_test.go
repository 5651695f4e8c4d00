package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestPullsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights[Pulled]
		begun, finish := 0, make(chan struct{})
		pull := func(ctx context.Context) (Pulled, error) {
			begun++
			select {
			case <-finish:
				return Pulled{Present: true}, nil
			case <-ctx.Done():
				return Pulled{}, ctx.Err()
			}
		}
		impatient, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 2)
		for _, ctx := range []context.Context{impatient, t.Context()} {
			go func() {
				_, err := f.join(ctx, "a", pull)
				ends <- err
			}()
			synctest.Wait()
		}
		cancel()
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that gave up: %v", err)
		}
		close(finish)
		if err := <-ends; err != nil || begun != 1 {
			t.Errorf("the other one: %v after %d pulls", err, begun)
		}
	})
}

// TestPullWithoutCallers ends with the last of them, before that returns.
func TestPullWithoutCallers(t *testing.T) {
	var f flights[Pulled]
	ended := false
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.join(ctx, "a", func(ctx context.Context) (Pulled, error) {
		cancel()
		<-ctx.Done()
		ended = true
		return Pulled{}, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || !ended || len(f.byRef) != 0 {
		t.Errorf("error %v, ended %v, %d left", err, ended, len(f.byRef))
	}
}

// TestSilentRegistry says nothing at all, or stops in the middle.
func TestSilentRegistry(t *testing.T) {
	quit := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(quit)
	client := &http.Client{Transport: patient{next: server.Client().Transport, stall: 50 * time.Millisecond}}
	for _, path := range []string{"/nothing", "/half"} {
		resp, err := client.Get(server.URL + path)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		var stalled *stalledError
		if !errors.As(err, &stalled) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}
