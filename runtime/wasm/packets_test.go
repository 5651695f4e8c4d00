package wasm

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
)

// echo answers datagrams until the test ends.
func echo(t *testing.T) net.Addr {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.LocalAddr()
}

func TestDatagramDestinations(t *testing.T) {
	server := echo(t)
	n := newPodNet(sandbox.Pod{Dial: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("udp", server.String())
	}}, Config{Log: slog.New(slog.DiscardHandler)}, nil)
	p, err := n.openPackets(0)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{}, 1)
	p.SetNotify(func() {
		select {
		case answered <- struct{}{}:
		default:
		}
	})
	to := netip.MustParseAddrPort("192.0.2.1:53")
	if err := p.WriteTo([]byte("hi"), to); err != nil {
		t.Fatal(err)
	}
	<-answered
	buf := make([]byte, 8)
	if size, from, err := p.TryReadFrom(buf, false); err != nil || from != to || string(buf[:size]) != "hi" {
		t.Errorf("%q from %v, %v", buf[:size], from, err)
	}
	peers := func(change int) int {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.peers += change
		return n.peers
	}
	peers(maxPeers - 1)
	if err := p.WriteTo([]byte("hi"), netip.MustParseAddrPort("192.0.2.2:53")); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("one destination too many: %v", err)
	}
	peers(1 - maxPeers)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.close(t.Context()); err != nil || peers(0) != 0 {
		t.Errorf("%v, %d destinations are left", err, peers(0))
	}
}
