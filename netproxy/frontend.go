package netproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// How long one dial may take while there are other endpoints to try, and the
// last one. An endpoint that is there answers in microseconds.
const (
	dialTimeout     = 2 * time.Second
	lastDialTimeout = 10 * time.Second
)

// frontend is the lasting part of one address: it survives the swap of tables
// as long as the address is served.
type frontend struct {
	addr     netip.AddrPort
	target   atomic.Pointer[Target]
	turn     atomic.Uint64
	count    atomic.Pointer[atomic.Uint64] // connections of the Service; several ports share it
	affinity affinity

	// Owned by Proxy.mu.
	listener net.Listener
	failure  string // the last bind error that was reported, "" when bound
}

// dialer connects to an endpoint; peer is the client's address or nil.
type dialer func(ctx context.Context, endpoint netip.AddrPort, peer net.Addr) (net.Conn, error)

// dial connects to one of the frontend's endpoints. It begins with the
// client's own one (affinity) or with the next in turn and goes on to the
// others when that fails, so that an endpoint that is about to leave the table
// costs nobody a connection. When the table changed meanwhile the newcomers
// are tried too.
func (f *frontend) dial(ctx context.Context, dial dialer, peer net.Addr) (net.Conn, error) {
	client := clientAddr(peer)
	var tried []netip.AddrPort
	var errs []error
	for target := f.target.Load(); ; {
		start := f.start(target, client)
		count := len(target.Endpoints)
		for i := range count {
			endpoint := target.Endpoints[(start+i)%count]
			if slices.Contains(tried, endpoint) {
				continue
			}
			conn, err := dialOne(ctx, dial, endpoint, peer, i == count-1)
			if err == nil {
				f.count.Load().Add(1)
				if target.Affinity > 0 && client.IsValid() {
					f.affinity.set(client, endpoint, time.Now(), target.Affinity)
				}
				return conn, nil
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("dial %s: %w", f.addr, context.Cause(ctx))
			}
			tried = append(tried, endpoint)
			errs = append(errs, err)
		}
		newer := f.target.Load()
		if newer == target {
			return nil, f.refused(target, errs)
		}
		target = newer
	}
}

// start is the index of the endpoint to begin with.
func (f *frontend) start(t *Target, client netip.Addr) int {
	if len(t.Endpoints) == 0 {
		return 0
	}
	if t.Affinity > 0 && client.IsValid() {
		if endpoint, ok := f.affinity.get(client, time.Now(), t.Affinity); ok {
			if i, ok := slices.BinarySearchFunc(t.Endpoints, endpoint, netip.AddrPort.Compare); ok {
				return i
			}
		}
	}
	return int((f.turn.Add(1) - 1) % uint64(len(t.Endpoints)))
}

func (f *frontend) refused(t *Target, errs []error) error {
	name := t.Service.Namespace + "/" + t.Service.Name
	if len(errs) == 0 {
		return fmt.Errorf("dial %s: service %s has no ready endpoint: %w", f.addr, name, syscall.ECONNREFUSED)
	}
	return fmt.Errorf("dial %s: no endpoint of service %s answers: %w", f.addr, name, errors.Join(errs...))
}

func dialOne(ctx context.Context, dial dialer, endpoint netip.AddrPort, peer net.Addr, last bool) (net.Conn, error) {
	timeout := dialTimeout
	if last {
		timeout = lastDialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return dial(ctx, endpoint, peer)
}

func clientAddr(peer net.Addr) netip.Addr {
	if tcp, ok := peer.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
