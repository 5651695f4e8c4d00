package wasm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// TestGuestPackage serves from the sample that uses package guest: it listens on
// a declared port and on one of its own, dials a name, is refused, and ends when
// it is told to.
func TestGuestPackage(t *testing.T) {
	h := shared.harness
	hello, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	upstream := h.Pod(t, nil)
	h.Start(t, upstream, sandbox.ContainerSpec{Image: hello, Env: []string{"POD_NAME=upstream"}, Ports: []sandbox.Port{{Number: 8080}}})
	image := shared.guests.Build(t, "../../samples/relay")
	if err := h.Runtime.Prepare(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		ports []sandbox.Port
		url   string
		code  int
		want  string
	}{
		{"declared port", []sandbox.Port{{Name: "http", Number: 18090}}, "http://hello.default.svc:8080/", 200, "was told: Hello from upstream"},
		{"own port", nil, "http://hello.default.svc:8080/", 200, "was told: Hello from upstream"},
		{"refused", nil, "http://nobody.default.svc:1/", 502, "refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := h.Pod(t, func(p *sandbox.Pod) {
				p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if address != "hello.default.svc:8080" {
						return nil, sandbox.ErrConnRefused
					}
					return upstream.Dial(ctx, 8080, nil)
				}
			})
			c, _ := h.Start(t, pod, sandbox.ContainerSpec{Image: image, Env: []string{"PORT=18090", "UPSTREAM=" + tc.url}, Ports: tc.ports})
			client := sandboxtest.Client(pod, 18090)
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					r, err := getWhenUp(t.Context(), client, "http://pod/")
					if err != nil {
						t.Error(err)
						return
					}
					body, _ := io.ReadAll(r.Body)
					r.Body.Close()
					if r.StatusCode != tc.code || !strings.Contains(string(body), tc.want) {
						t.Errorf("status %d: %s", r.StatusCode, body)
					}
				})
			}
			group.Wait()
			client.CloseIdleConnections()
			if tc.code == http.StatusOK {
				seesClient(t, pod, "203.0.113.9:4711")
			}
			if err := c.Stop(t.Context(), 30*time.Second); err != nil {
				t.Fatal(err)
			}
			if exit := c.Exit(); exit.Code != 0 {
				t.Errorf("%+v", exit)
			}
		})
	}
}

// seesClient asks the relay as a client of the given address, which it must see.
func seesClient(t *testing.T, pod sandbox.Sandbox, address string) {
	t.Helper()
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return pod.Dial(ctx, 18090, from)
	}}}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://pod/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, _ := io.ReadAll(r.Body); !strings.HasPrefix(string(body), address+" was told") {
		t.Errorf("the client is %s, the guest says %q", address, body)
	}
}

// getWhenUp asks again while nobody listens yet: a port that the guest opens
// itself comes when it comes.
func getWhenUp(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	for {
		r, err := client.Get(url)
		if err == nil || !errors.Is(err, sandbox.ErrConnRefused) || ctx.Err() != nil {
			return r, err
		}
	}
}
