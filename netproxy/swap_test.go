package netproxy

import (
	"bufio"
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
	deadline := time.Now().Add(2 * time.Minute)
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
