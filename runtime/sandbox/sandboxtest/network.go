package sandboxtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
)

const webPort = 18080

func (h *Harness) web(t *testing.T, args ...string) (sandbox.Sandbox, sandbox.Container, *Output) {
	t.Helper()
	s := h.Pod(t, nil)
	c, out := h.Start(t, s, sandbox.ContainerSpec{
		Image: h.Guests.Web(t), Args: append([]string{"web"}, args...),
		Ports: []sandbox.Port{{Name: "http", Number: webPort, Protocol: "TCP"}},
	})
	return s, c, out
}

func get(client *http.Client, url string) (string, error) {
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func testNetwork(t *testing.T, h *Harness) {
	s, c, _ := h.web(t)
	client := Client(s, webPort)
	t.Run("in memory", func(t *testing.T) {
		for i := range 3 {
			if got, err := get(client, fmt.Sprintf("http://pod/%d", i)); got != fmt.Sprintf("hello /%d\n", i) {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
	t.Run("large bodies", func(t *testing.T) {
		if got, err := get(client, "http://pod/big"); len(got) != 1<<20 || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		sent := strings.Repeat("x", 3<<20)
		r, err := client.Post("http://pod/echo", "text/plain", strings.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if got, err := io.ReadAll(r.Body); string(got) != sent || err != nil {
			t.Errorf("%d bytes back, %v", len(got), err)
		}
	})
	t.Run("many at once", func(t *testing.T) { testManyClients(t, client) })
	t.Run("through the kernel", func(t *testing.T) {
		at := netip.AddrPortFrom(s.Pod().IP, webPort)
		direct := &http.Client{Transport: &http.Transport{}, Timeout: patience}
		defer direct.CloseIdleConnections()
		if got, err := get(direct, "http://"+at.String()+"/big"); len(got) != 1<<20 || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		if _, err := s.Dial(t.Context(), 1, nil); !errors.Is(err, sandbox.ErrConnRefused) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("port of another container", func(t *testing.T) {
		_, err := s.Start(t.Context(), sandbox.ContainerSpec{
			Name: "second", Image: h.Guests.Web(t), Ports: []sandbox.Port{{Number: webPort}},
		})
		if err == nil || !strings.Contains(err.Error(), "18080") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("port of another process", func(t *testing.T) {
		other := h.Pod(t, nil)
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(other.Pod().IP, webPort)))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = other.Start(t.Context(), sandbox.ContainerSpec{
			Name: "x", Image: h.Guests.Web(t), Ports: []sandbox.Port{{Number: webPort}},
		})
		if err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("error %v", err)
		}
	})
	client.CloseIdleConnections()
	if err := c.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}
	if _, err := s.Dial(t.Context(), webPort, nil); !errors.Is(err, sandbox.ErrConnRefused) {
		t.Errorf("dial after the end: %v", err)
	}
}

func testManyClients(t *testing.T, client *http.Client) {
	var wait sync.WaitGroup
	for i := range 64 {
		wait.Go(func() {
			for j := range 10 {
				want := fmt.Sprintf("hello /%d/%d\n", i, j)
				if got, err := get(client, fmt.Sprintf("http://pod/%d/%d", i, j)); got != want {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	wait.Wait()
}

func testLimits(t *testing.T, h *Harness) {
	t.Run("memory", func(t *testing.T) {
		exit, out := h.Tool(t, sandbox.ContainerSpec{Resources: sandbox.Resources{MemoryLimit: 32 << 20}}, "alloc:8", "alloc:200", "say:survived")
		if exit.Code != 137 || exit.Reason != "OOMKilled" || !strings.Contains(out, "allocated 8") {
			t.Errorf("%+v %q", exit, out)
		}
	})
	t.Run("memory of a pod", func(t *testing.T) {
		s := h.Pod(t, func(p *sandbox.Pod) { p.MemoryLimit = 64 << 20 })
		start := func(verbs ...string) (sandbox.Container, *Output) {
			return h.Start(t, s, sandbox.ContainerSpec{Image: h.Guests.Tool(t), Args: append([]string{"tool"}, verbs...)})
		}
		one, said := start("alloc:40", "spin")
		said.Await(t, "allocated 40")
		another, out := start("alloc:40", "say:survived")
		if exit := Wait(t, another); exit.Code != 137 || exit.Reason != "OOMKilled" {
			t.Errorf("beside one that has it: %+v %q", exit, out.String())
		}
		if err := one.Stop(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		again, out := start("alloc:40", "say:survived")
		if exit := Wait(t, again); exit.Code != 0 || !strings.Contains(out.String(), "survived") {
			t.Errorf("after its end: %+v %q", exit, out.String())
		}
	})
	t.Run("memory from the start", func(t *testing.T) {
		_, err := h.Pod(t, nil).Start(t.Context(), sandbox.ContainerSpec{
			Name: "x", Image: h.Guests.Tool(t), Resources: sandbox.Resources{MemoryLimit: 64 << 10},
		})
		if err == nil || !strings.Contains(err.Error(), "65536") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("spinning guests disturb nobody", func(t *testing.T) {
		var spinners []sandbox.Container
		for range 4 {
			c, _ := h.Start(t, h.Pod(t, nil), sandbox.ContainerSpec{Image: h.Guests.Tool(t), Args: []string{"tool", "spin"}})
			spinners = append(spinners, c)
		}
		if exit, out := h.Tool(t, sandbox.ContainerSpec{}, "sleep:1ms", "say:fine"); out != "fine\n" {
			t.Errorf("%+v %q", exit, out)
		}
		for _, c := range spinners {
			if err := c.Stop(t.Context(), 10*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if exit := c.Exit(); exit.Code != 143 {
				t.Errorf("%+v", exit)
			}
		}
	})
}
