package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
)

func testStop(t *testing.T, h *Harness) {
	t.Run("idle server is told", func(t *testing.T) {
		s, c, out := h.web(t)
		client := Client(s, webPort)
		if _, err := get(client, "http://pod/"); err != nil { // leaves a keep-alive connection
			t.Fatal(err)
		}
		if err := c.Stop(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if exit := c.Exit(); exit.Code != 0 || !strings.Contains(out.String(), "stopped:") {
			t.Errorf("%+v %q", exit, out.String())
		}
	})
	t.Run("request in flight finishes", func(t *testing.T) {
		s, c, out := h.web(t)
		out.Await(t, "serving")
		answer := make(chan string, 1)
		client := Client(s, webPort)
		go func() {
			got, err := get(client, "http://pod/slow?for=700ms")
			answer <- fmt.Sprint(got, err)
		}()
		awaitBusy(t, s)
		if err := c.Stop(t.Context(), 20*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := <-answer; got != "done\n<nil>" {
			t.Errorf("answer %q", got)
		}
	})
	t.Run("stubborn guest is killed", func(t *testing.T) {
		s, c, _ := h.web(t, "stubborn")
		if _, err := get(Client(s, webPort), "http://pod/"); err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if exit := c.Exit(); exit.Code != 137 {
			t.Errorf("%+v", exit)
		}
	})
	t.Run("busy guest is killed", func(t *testing.T) {
		s, c, out := h.web(t)
		out.Await(t, "serving")
		failed := make(chan error, 1)
		go func() {
			_, err := get(Client(s, webPort), "http://pod/spin")
			failed <- err
		}()
		awaitBusy(t, s)
		if err := c.Stop(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if exit := c.Exit(); exit.Code != 137 {
			t.Errorf("%+v", exit)
		}
		if err := <-failed; err == nil {
			t.Error("a request to a killed guest succeeded")
		}
	})
	t.Run("nothing to be told by", func(t *testing.T) {
		c, _ := h.Start(t, h.Pod(t, nil), sandbox.ContainerSpec{Image: h.Guests.Tool(t), Args: []string{"tool", "forever"}})
		if err := c.Stop(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if exit := c.Exit(); exit.Code != 143 {
			t.Errorf("%+v", exit)
		}
	})
	t.Run("impatient caller", func(t *testing.T) {
		s, c, _ := h.web(t, "stubborn")
		if _, err := get(Client(s, webPort), "http://pod/"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Stop(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if err := c.Stop(t.Context(), 0); err != nil { // the grace gets shorter
			t.Error(err)
		}
	})
	t.Run("closed sandbox", func(t *testing.T) {
		s := h.Pod(t, nil)
		c, _ := h.Start(t, s, sandbox.ContainerSpec{Image: h.Guests.Tool(t), Args: []string{"tool", "forever"}})
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if exit := Wait(t, c); exit.Code != 137 {
			t.Errorf("%+v", exit)
		}
		if _, err := s.Start(t.Context(), sandbox.ContainerSpec{Name: "late", Image: h.Guests.Tool(t)}); err == nil {
			t.Error("a closed sandbox starts containers")
		}
	})
	t.Run("rolling update loses nothing", func(t *testing.T) { testRolling(t, h) })
}

// awaitBusy returns when a request that was started before is being served:
// connections are served in order, and this one's answer comes later.
func awaitBusy(t *testing.T, s sandbox.Sandbox) {
	t.Helper()
	c, err := s.Dial(t.Context(), webPort, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A spinning guest answers nobody.
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	fmt.Fprint(c, "GET /slow?for=20ms HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Log("probe:", err)
	}
}

// testRolling replaces a server under load, from kept and from fresh
// connections, as a proxy that tries the next pod when one refuses.
func testRolling(t *testing.T, h *Harness) {
	old, container, out := h.web(t)
	out.Await(t, "serving")
	next, _, out := h.web(t)
	out.Await(t, "serving")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := old.Dial(ctx, webPort, nil)
		if errors.Is(err, sandbox.ErrConnRefused) {
			return next.Dial(ctx, webPort, nil)
		}
		return c, err
	}
	var (
		wait          sync.WaitGroup
		served        atomic.Int64
		done, stopped = make(chan struct{}), make(chan struct{})
	)
	for i := range 8 {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: i%2 == 0}}
		wait.Go(func() {
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				default:
				}
				if got, err := get(client, "http://pod/x"); err != nil || got != "hello /x\n" {
					t.Errorf("request %d failed: %q, %v", served.Load(), got, err)
					return
				}
				served.Add(1)
			}
		})
	}
	go func() {
		defer close(stopped)
		if err := container.Stop(t.Context(), 10*time.Second); err != nil {
			t.Error(err)
		}
	}()
	<-stopped
	after := served.Load()
	for served.Load() < after+100 && !t.Failed() {
		time.Sleep(time.Millisecond) // a condition of other goroutines, not a time
	}
	close(done)
	wait.Wait()
	t.Logf("%d requests while the old one stopped, none lost; it ended with %+v", after, container.Exit())
}
