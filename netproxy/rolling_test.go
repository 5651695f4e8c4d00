package netproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// httpPod is a pod that serves HTTP over connections in memory and ends as
// pods do: it takes no new connections and finishes those that it has.
type httpPod struct {
	addr   netip.AddrPort
	server *http.Server
	done   chan struct{}

	open   sync.WaitGroup // connections
	mu     sync.Mutex
	closed bool
	queue  chan net.Conn
}

func newHTTPPod(n int) *httpPod {
	p := &httpPod{
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 64, 0, byte(n)}), 8080), done: make(chan struct{}),
		server: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })},
		queue:  make(chan net.Conn, 128),
	}
	p.server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			p.open.Add(1)
		case http.StateClosed:
			p.open.Done()
		}
	}
	go func() { defer close(p.done); _ = p.server.Serve(p) }()
	return p
}

func (p *httpPod) dial() (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, syscall.ECONNREFUSED
	}
	client, server := net.Pipe()
	p.queue <- server
	return client, nil
}

func (p *httpPod) Accept() (net.Conn, error) {
	if conn, ok := <-p.queue; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p *httpPod) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.queue)
	}
	return nil
}

func (p *httpPod) Addr() net.Addr { return net.TCPAddrFromAddrPort(p.addr) }

func (p *httpPod) end(t *testing.T) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-p.done // all in the queue have a goroutine
	// Not Shutdown: it drops requests that it has just read.
	p.server.SetKeepAlivesEnabled(false)
	p.open.Wait()
}

// Pods are replaced one by one under load, with keep-alive and without: no
// request fails, although each pod ends while the table still names it.
func TestRollingUpdateFailsNoRequest(t *testing.T) {
	var all sync.Map // netip.AddrPort to *httpPod
	start := func(n int) *httpPod {
		pod := newHTTPPod(n)
		all.Store(pod.addr, pod)
		return pod
	}
	p := runProxy(t, Config{Dial: func(_ context.Context, addr netip.AddrPort, _ net.Addr) (net.Conn, error) {
		pod, _ := all.Load(addr)
		return pod.(*httpPod).dial()
	}})
	addr := freeAddr(t)
	pods := []*httpPod{start(1), start(2), start(3)}
	current := func() []netip.AddrPort {
		var out []netip.AddrPort
		for _, pod := range pods {
			out = append(out, pod.addr)
		}
		return out
	}
	p.Swap(table(addr, nil, current()...))
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var requests atomic.Int64
	progress := make(chan struct{}, 1)
	for i := range 4 {
		clients.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			for ctx.Err() == nil {
				resp, err := client.Get("http://" + addr.String())
				if err != nil {
					t.Errorf("request failed: %v", err)
					return
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" {
					t.Errorf("answer %q, %v", body, err)
				}
				_ = resp.Body.Close()
				requests.Add(1)
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	for i := range 12 {
		for range 30 {
			<-progress
		}
		old := pods[0]
		pods = append(pods[1:len(pods):len(pods)], start(4+i))
		p.Swap(table(addr, nil, append(current(), old.addr)...))
		old.end(t) // before the table knows
		p.Swap(table(addr, nil, current()...))
	}
	stop()
	clients.Wait()
	for _, pod := range pods {
		pod.end(t)
	}
	t.Logf("%d requests", requests.Load())
}
