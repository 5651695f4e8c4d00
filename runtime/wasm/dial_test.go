package wasm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
	"wherry.dev/wherry/runtime/wasm/memconn"
)

// cGuest compiles a guest of testdata.
func cGuest(t testing.TB, source string, flags ...string) sandbox.Image {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("clang is not installed")
	}
	out := filepath.Join(t.TempDir(), "guest.wasm")
	args := append([]string{"--target=wasm32-wasi", "-O1", "-o", out, filepath.Join("testdata", source)}, flags...)
	if text, err := exec.CommandContext(t.Context(), clang, args...).CombinedOutput(); err != nil {
		if strings.Contains(string(text), "stdio.h' file not found") || strings.Contains(string(text), "cannot open crt1") {
			t.Skip("wasi-libc is not installed")
		}
		t.Fatalf("%v\n%s", err, text)
	}
	image, err := sandboxtest.FromFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.harness.Runtime.Prepare(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return image
}

// pong answers "pong" to each of its clients.
func pong(t *testing.T) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ping := make([]byte, 4)
			if _, err := io.ReadFull(c, ping); err == nil {
				_, _ = io.WriteString(c, "pong")
			}
			_ = c.Close()
		}
	}()
	return l.Addr()
}

// TestDialOut connects guests of both versions of the extension to a server in
// the kernel, by address and by name, to a port that refuses, to another
// sandbox, and to themselves.
func TestDialOut(t *testing.T) {
	server := pong(t)
	for _, v := range []struct {
		name  string
		flags []string
	}{{"first version", []string{"-DFIRST"}}, {"second version", nil}} {
		t.Run(v.name, func(t *testing.T) {
			image := cGuest(t, "dial.c", v.flags...)
			h := shared.harness
			other := h.Pod(t, nil)
			front, _ := h.Start(t, other, sandbox.ContainerSpec{
				Image: image, Args: []string{"dial", "listen:7000", "127.0.0.1:7000"},
			})
			sandboxtest.Wait(t, front)

			peer := h.Pod(t, nil)
			chello, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
			if err != nil {
				t.Fatal(err)
			}
			h.Start(t, peer, sandbox.ContainerSpec{Image: chello, Ports: []sandbox.Port{{Number: 8080}}})
			inMemory := make(chan bool, 1)
			pod := h.Pod(t, func(p *sandbox.Pod) {
				p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					switch address {
					case "198.51.100.1:80", "web.default.svc:80":
						return (&net.Dialer{}).DialContext(ctx, network, server.String())
					case "198.51.100.2:8080":
						c, err := peer.Dial(ctx, 8080, nil)
						_, ok := c.(*memconn.Conn)
						inMemory <- ok
						return c, err
					case "198.51.100.3:1":
						return nil, sandbox.ErrConnRefused
					}
					return nil, errors.New("no route")
				}
			})
			c, out := h.Start(t, pod, sandbox.ContainerSpec{Image: image, Args: []string{
				"dial", "198.51.100.1:80", "web.default.svc:80", "198.51.100.3:1", "198.51.100.4:1",
				"127.0.0.1:" + strings.Split(server.String(), ":")[1], // the host's port is not the pod's
				"listen:7000", "127.0.0.1:7000", "198.51.100.2:8080",
			}})
			// The peer speaks HTTP and says nothing to a ping: end it, and the
			// connection is at its end.
			if !<-inMemory {
				t.Error("bytes between sandboxes leave memory")
			}
			if err := peer.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if exit := sandboxtest.Wait(t, c); exit.Code != 0 {
				t.Errorf("%+v", exit)
			}
			const want = "pong\npong\nerror 14\nerror 23\nerror 14\nself\n"
			if got := out.String(); !strings.HasPrefix(got, want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestResolve uses the runtime's own resolver when it has one.
func TestResolve(t *testing.T) {
	image := cGuest(t, "dial.c")
	server := netip.MustParseAddrPort(pong(t).String())
	rt, err := New(Config{Dir: shared.dir, Resolve: func(_ context.Context, _ sandbox.Pod, host string) ([]netip.Addr, error) {
		if host == "db" {
			return []netip.Addr{netip.MustParseAddr("198.51.100.7")}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	h := &sandboxtest.Harness{Runtime: rt, Guests: &shared.guests}
	pod := h.Pod(t, func(p *sandbox.Pod) {
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "198.51.100.7:80" {
				return nil, errors.New("unexpected " + address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, server.String())
		}
	})
	c, out := h.Start(t, pod, sandbox.ContainerSpec{Image: image, Args: []string{"dial", "db:80", "nobody:80", "localhost:80"}})
	sandboxtest.Wait(t, c)
	if got := out.String(); got != "pong\nerror 44\nerror 14\n" {
		t.Errorf("got %q", got)
	}
}
