package sandboxtest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
)

// patience bounds waits that only a bug makes long.
const patience = 90 * time.Second

// Harness gives tests pods of a runtime.
type Harness struct {
	Runtime sandbox.Runtime
	Guests  *Guests

	mu   sync.Mutex
	pods byte
}

// Pod creates a sandbox that ends with the test. change may be nil.
func (h *Harness) Pod(t testing.TB, change func(*sandbox.Pod)) sandbox.Sandbox {
	t.Helper()
	h.mu.Lock()
	h.pods++
	n := h.pods
	h.mu.Unlock()
	pod := sandbox.Pod{
		UID: "uid-" + string('a'+rune(n%26)), Namespace: "default", Name: "pod", Hostname: "pod-host",
		IP: netip.AddrFrom4([4]byte{127, 99, 1, n}),
	}
	if change != nil {
		change(&pod)
	}
	s, err := h.Runtime.Create(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close the sandbox: %v", err)
		}
	})
	return s
}

// Output collects what a container writes.
type Output struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
	grown  chan struct{}
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if o.grown != nil {
		close(o.grown)
		o.grown = nil
	}
	return o.buf.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Await waits until the output contains text.
func (o *Output) Await(t testing.TB, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		o.mu.Lock()
		if strings.Contains(o.buf.String(), text) {
			o.mu.Unlock()
			return
		}
		if o.grown == nil {
			o.grown = make(chan struct{})
		}
		grown := o.grown
		o.mu.Unlock()
		select {
		case <-grown:
		case <-late:
			t.Fatalf("the output never had %q: %q", text, o.String())
		}
	}
}

// Start starts a container with its output collected.
func (h *Harness) Start(t testing.TB, s sandbox.Sandbox, spec sandbox.ContainerSpec) (sandbox.Container, *Output) {
	t.Helper()
	out := &Output{}
	if spec.Stdout == nil {
		spec.Stdout = out
	}
	if spec.Stderr == nil {
		spec.Stderr = out
	}
	if spec.Name == "" {
		spec.Name = "main"
	}
	c, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return c, out
}

// Wait returns how a container ended.
func Wait(t testing.TB, c sandbox.Container) sandbox.Exit {
	t.Helper()
	select {
	case <-c.Done():
		return c.Exit()
	case <-time.After(patience):
		t.Fatal("the container does not end")
		return sandbox.Exit{}
	}
}

// Tool runs the tool guest with verbs to its end.
func (h *Harness) Tool(t testing.TB, spec sandbox.ContainerSpec, verbs ...string) (sandbox.Exit, string) {
	t.Helper()
	spec.Image = h.Guests.Tool(t)
	spec.Args = append([]string{"tool"}, verbs...)
	c, out := h.Start(t, h.Pod(t, nil), spec)
	exit := Wait(t, c)
	return exit, out.String()
}

// Client returns an HTTP client all of whose connections go to one port of a sandbox.
func Client(s sandbox.Sandbox, port uint16) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.Dial(ctx, port, nil)
		},
	}}
}
