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
	"sync/atomic"
	"syscall"
	"testing"
	"time"
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

func TestSwapKeepsConnections(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, a.addr))
	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	say := func(want string) {
		t.Helper()
		if _, err := io.WriteString(conn, "x\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got %q, %v; want %q", line, err, want)
		}
	}
	say("a x\n")
	p.Swap(table(addr, nil, b.addr)) // its endpoint leaves
	say("a x\n")
	if who, err := ask(addr); err != nil || who != "b" {
		t.Errorf("new connection: %q, %v", who, err)
	}
	p.Swap(&Table{}) // the Service leaves
	say("a x\n")
	if _, err := ask(addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the Service left: %v", err)
	}
	if got := p.Listening(); len(got) != 0 {
		t.Errorf("still listening on %v", got)
	}
}

// No request may fail while tables are swapped under load, as long as each of
// them has one endpoint that lives.
func TestSwapLosesNoConnection(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	dead := freeAddr(t)
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	p.Swap(table(addr, nil, a.addr))
	var clients sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		clients.Go(func() {
			for range 100 {
				if _, err := ask(addr); err != nil {
					t.Errorf("lost: %v", err)
					return
				}
				asked.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() { clients.Wait(); close(finished) }()
	for i := 0; ; i++ {
		select {
		case <-finished:
			if asked.Load() != 400 {
				t.Errorf("%d answers", asked.Load())
			}
			return
		default:
			p.Swap(table(addr, nil, [][]netip.AddrPort{{a.addr}, {b.addr, dead}, {a.addr, b.addr}}[i%3]...))
		}
	}
}

func TestProxyAffinity(t *testing.T) {
	a, b, c := newBackend(t, "a"), newBackend(t, "b"), newBackend(t, "c")
	p := runProxy(t, Config{})
	addr := freeAddr(t)
	sticky := func(target *Target) { target.Affinity = time.Hour }
	p.Swap(table(addr, sticky, a.addr, b.addr, c.addr))
	first, err := ask(addr)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if who, err := ask(addr); err != nil || who != first {
			t.Fatalf("%q, %v; want %q again", who, err, first)
		}
	}
	rest := slices.DeleteFunc([]netip.AddrPort{a.addr, b.addr, c.addr}, func(x netip.AddrPort) bool {
		return x == map[string]*backend{"a": a, "b": b, "c": c}[first].addr
	})
	p.Swap(table(addr, sticky, rest...))
	second, err := ask(addr)
	if err != nil || second == first {
		t.Fatalf("%q, %v; want another than %q", second, err, first)
	}
	if who, _ := ask(addr); who != second {
		t.Errorf("%q, want %q to stay", who, second)
	}
}

func TestAffinityExpires(t *testing.T) {
	var a affinity
	client, end := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort("127.64.0.1:80")
	start := time.Unix(1000, 0)
	a.set(client, end, start, time.Minute)
	if got, ok := a.get(client, start.Add(59*time.Second), time.Minute); !ok || got != end {
		t.Error("forgotten too early")
	}
	if _, ok := a.get(client, start.Add(time.Minute), time.Minute); ok {
		t.Error("still there after its time")
	}
	a.set(netip.MustParseAddr("127.0.0.2"), end, start.Add(2*time.Minute), time.Minute)
	if len(a.clients) != 1 {
		t.Errorf("%d clients kept, want 1", len(a.clients))
	}
}

func TestBindFailureIsReportedAndRetried(t *testing.T) {
	a := newBackend(t, "a")
	taken := freeAddr(t)
	other, err := net.Listen("tcp4", taken.String())
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan BindFailure, 10)
	p := runProxy(t, Config{
		Report:            func(f BindFailure) { reports <- f },
		NodePortAddresses: []netip.Addr{taken.Addr()},
	})
	good := freeAddr(t)
	both := table(good, nil, a.addr)
	both.nodePorts = map[uint16]*Target{taken.Port(): {Service: service("np", "127.32.0.9", 80),
		NodePort: true, Endpoints: []netip.AddrPort{a.addr}}}
	p.Swap(both)
	p.Swap(both)
	f := <-reports
	if f.Address != taken || !f.NodePort || f.Service.Name != "np" || !errors.Is(f.Err, syscall.EADDRINUSE) ||
		!strings.Contains(f.Advice, fmt.Sprint(taken.Port())) {
		t.Errorf("report %+v", f)
	}
	if len(reports) != 0 {
		t.Error("reported twice")
	}
	if who, err := ask(good); err != nil || who != "a" {
		t.Errorf("the other port: %q, %v", who, err)
	}
	_ = other.Close()
	deadline := time.Now().Add(30 * time.Second)
	for len(p.Listening()) != 2 {
		if time.Now().After(deadline) {
			t.Fatal("not bound after the port became free")
		}
		<-time.After(10 * time.Millisecond)
	}
	if who, err := ask(taken); err != nil || who != "a" {
		t.Errorf("after the retry: %q, %v", who, err)
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

func BenchmarkSwap(b *testing.B) {
	services, all := cluster(1000, 10)
	p := New(Config{Listen: func(string, string) (net.Listener, error) { return nil, syscall.EACCES }})
	t := Build(services, all, Node{Name: "n1"})
	p.Swap(t)
	b.ReportAllocs()
	for b.Loop() {
		p.Swap(t)
	}
}
