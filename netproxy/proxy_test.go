package netproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// backend is a pod: it answers each line with its name and the line.
type backend struct {
	addr netip.AddrPort
	l    net.Listener
}

func newBackend(t testing.TB, name string) *backend {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						_, _ = io.WriteString(conn, name+" bye "+line)
						return
					}
					_, _ = io.WriteString(conn, name+" "+line)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	return &backend{addr: l.Addr().(*net.TCPAddr).AddrPort(), l: l}
}

// table serves the endpoints at one address.
func table(addr netip.AddrPort, change func(*Target), endpoints ...netip.AddrPort) *Table {
	slices.SortFunc(endpoints, netip.AddrPort.Compare)
	target := &Target{Service: service("web", addr.Addr().String(), int32(addr.Port())), Endpoints: endpoints}
	if change != nil {
		change(target)
	}
	return &Table{targets: map[netip.AddrPort]*Target{addr: target}}
}

// runProxy runs a proxy for the length of the test.
func runProxy(t testing.TB, cfg Config) *Proxy {
	t.Helper()
	p := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// freeAddr finds an address that nobody listens on.
func freeAddr(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// ask opens a connection, asks once and returns who answered.
func ask(addr netip.AddrPort) (string, error) {
	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hi\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	who, _, _ := strings.Cut(line, " ")
	return who, err
}

func TestProxyIsFair(t *testing.T) {
	a, b, c := newBackend(t, "a"), newBackend(t, "b"), newBackend(t, "c")
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, a.addr, b.addr, c.addr))
	got := map[string]int{}
	for range 30 {
		who, err := ask(addr)
		if err != nil {
			t.Fatal(err)
		}
		got[who]++
	}
	if got["a"] != 10 || got["b"] != 10 || got["c"] != 10 {
		t.Errorf("answers %v, want 10 each", got)
	}
}

func TestProxyHalfClose(t *testing.T) {
	a := newBackend(t, "a")
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, a.addr))
	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "one\nrest")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil || string(all) != "a one\na bye rest" {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestProxyLongStreams(t *testing.T) {
	const size = 5 << 20
	echo, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		conn, err := echo.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	})
	t.Cleanup(func() { _ = echo.Close(); work.Wait() })
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, echo.Addr().(*net.TCPAddr).AddrPort()))
	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 / 3)
	}
	work.Go(func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	got, err := io.ReadAll(conn)
	if err != nil || !slices.Equal(got, sent) {
		t.Errorf("got %d bytes, %v; want the %d that were sent", len(got), err, size)
	}
}

func TestProxyDeadEndpointCostsNothing(t *testing.T) {
	a := newBackend(t, "a")
	dead := freeAddr(t)
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, dead, a.addr))
	for range 10 {
		if who, err := ask(addr); err != nil || who != "a" {
			t.Fatalf("answer %q, %v", who, err)
		}
	}
}

func TestProxyTriesNewcomers(t *testing.T) {
	old, fresh := netip.MustParseAddrPort("127.64.0.1:80"), netip.MustParseAddrPort("127.64.0.2:80")
	addr := netip.MustParseAddrPort("127.32.0.1:80")
	var p *Proxy
	p = New(Config{Listen: noListen, Dial: func(_ context.Context, e netip.AddrPort, _ net.Addr) (net.Conn, error) {
		if e == old {
			p.Swap(table(addr, nil, fresh))
			return nil, syscall.ECONNREFUSED
		}
		client, server := net.Pipe()
		_ = server.Close()
		return client, nil
	}})
	p.Swap(table(addr, nil, old))
	conn, ok, err := p.DialService(t.Context(), addr)
	if err != nil || !ok {
		t.Fatalf("ok %v, %v", ok, err)
	}
	_ = conn.Close()
}

func noListen(string, string) (net.Listener, error) { return nil, errors.New("not in this test") }

func TestProxyRefuses(t *testing.T) {
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil))
	if _, err := ask(addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no endpoint: %v, want refused", err)
	}
	if _, ok, err := p.DialService(t.Context(), addr); !ok || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no endpoint, guest: %v %v, want refused", ok, err)
	}
	if _, ok, err := p.DialService(t.Context(), freeAddr(t)); ok || err != nil {
		t.Errorf("no service: %v %v", ok, err)
	}
	p.Swap(table(addr, nil, freeAddr(t)))
	if _, err := ask(addr); err == nil {
		t.Error("dead endpoint: answered")
	}
}

func TestAdvice(t *testing.T) {
	addr := netip.MustParseAddrPort("127.32.0.1:443")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{syscall.EACCES, "net.ipv4.ip_unprivileged_port_start=443"},
		{syscall.EADDRINUSE, "other cluster"},
		{syscall.EADDRNOTAVAIL, "ifconfig lo0 alias 127.32.0.1"},
		{syscall.EMFILE, "ulimit"},
		{errors.New("odd"), "tried again"},
	} {
		if got := advice(addr, false, &net.OpError{Op: "listen", Err: tt.err}); !strings.Contains(got, tt.want) {
			t.Errorf("%v: %q, want %q in it", tt.err, got, tt.want)
		}
	}
}

func TestGuestDialsInMemory(t *testing.T) {
	end := netip.MustParseAddrPort("127.64.0.1:8080")
	addr := netip.MustParseAddrPort("127.32.0.7:80")
	guest := &net.TCPAddr{IP: net.IPv4(127, 64, 0, 9), Port: 5}
	var seen net.Addr
	p := New(Config{Listen: noListen, Dial: func(_ context.Context, e netip.AddrPort, peer net.Addr) (net.Conn, error) {
		if e != end {
			return nil, fmt.Errorf("dialled %s", e)
		}
		seen = peer
		client, server := net.Pipe()
		_ = server.Close()
		return client, nil
	}})
	p.Swap(table(addr, nil, end))
	conn, ok, err := p.DialServiceFrom(t.Context(), addr, guest)
	if err != nil || !ok || seen != guest {
		t.Fatalf("ok %v, err %v, peer %v", ok, err, seen)
	}
	_ = conn.Close()
}

func TestRunEndsEverything(t *testing.T) {
	a := newBackend(t, "a")
	p := New(Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, a.addr))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "x\n")
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("connection still open")
	}
	p.Swap(table(addr, nil, a.addr))
	if _, err := ask(addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Run: %v", err)
	}
}

// A client that aborts ends the connection to the pod.
func TestResetIsPassedOn(t *testing.T) {
	ended := make(chan error, 1)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.ReadAll(conn)
			_ = conn.Close()
		}
		ended <- err
	}()
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, l.Addr().(*net.TCPAddr).AddrPort()))
	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "part")
	reset(conn)
	_ = conn.Close()
	<-ended // reset or end of file, but it ends
}

func BenchmarkRequest(b *testing.B) {
	be := newBackend(b, "a")
	p := runProxy(b, Config{})
	addr := freeAddr(b)
	p.Swap(table(addr, nil, be.addr))
	for _, bb := range []struct {
		name string
		addr netip.AddrPort
	}{{"direct", be.addr}, {"proxy", addr}} {
		b.Run("keepalive/"+bb.name, func(b *testing.B) {
			conn, err := net.Dial("tcp4", bb.addr.String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for b.Loop() {
				_, _ = io.WriteString(conn, "hi\n")
				if _, err := in.ReadString('\n'); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("connect/"+bb.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := ask(bb.addr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
