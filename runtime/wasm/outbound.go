package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/memconn"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// guestNet is a pod's network as one container uses it: what the container
// opens is remembered, so that it ends with it.
type guestNet struct {
	*podNet
	container *container
}

var _ wasi.Network = guestNet{}

// Dial implements wasi.Network.
func (n guestNet) Dial(ctx context.Context, to netip.AddrPort) (*memconn.Conn, error) {
	local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.pod.IP, 0))
	if n.isOwn(to.Addr()) {
		c, err := n.dial(to.Port(), local)
		return c, refusal(err)
	}
	host := to.Addr().String()
	if name, ok := n.names.name(to.Addr()); ok {
		host = name
	}
	if n.pod.Dial == nil {
		return nil, syscall.EACCES
	}
	if !n.reserve() {
		return nil, syscall.EMFILE
	}
	c, err := n.pod.Dial(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(to.Port())))
	if err != nil {
		n.unreserve()
		return nil, refusal(err)
	}
	if mem, ok := c.(*memconn.Conn); ok {
		n.unreserve()
		return mem, nil // another guest of this node: nothing to copy
	}
	guest, outside := memconn.Pipe(c.LocalAddr(), net.TCPAddrFromAddrPort(to), n.buffers)
	guest.TakesOver()
	n.join(c, outside)
	return guest, nil
}

// refusal makes a sandbox's refusal one that guests are told as such.
func refusal(err error) error {
	if errors.Is(err, sandbox.ErrConnRefused) {
		return fmt.Errorf("%w: %w", memconn.ErrRefused, err)
	}
	return err
}

// ownLoopback is the part of 127.0.0.0/8 that means the pod itself. The rest
// holds pods and Services where addresses need no privileges.
var ownLoopback = netip.MustParsePrefix("127.0.0.0/16")

// isOwn reports whether an address leads back into the pod, and so never to
// the host's own loopback.
func (n *podNet) isOwn(a netip.Addr) bool {
	return a == n.pod.IP || ownLoopback.Contains(a) || a == netip.IPv6Loopback() || a.IsUnspecified()
}

// Listen implements wasi.Network.
func (n guestNet) Listen(number uint16) (*memconn.Listener, error) {
	p, err := n.listen(number)
	if err != nil {
		return nil, err
	}
	n.container.adopt(p)
	return p.mem, nil
}

// Packets implements wasi.Network.
func (n guestNet) Packets(number uint16) (*memconn.Packets, error) { return n.openPackets(number) }

// Resolve implements wasi.Network.
func (n guestNet) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	switch {
	case host == "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	case host == n.pod.Hostname && n.pod.IP.IsValid():
		return []netip.Addr{n.pod.IP}, nil
	case n.resolve != nil:
		return n.resolve(ctx, n.pod, host)
	}
	a, err := n.names.address(host)
	return []netip.Addr{a}, err
}

// nameBook gives out addresses that stand for names, from 240.0.0.0/4, which
// nobody has. Pod.Dial resolves names itself but cannot be asked for their
// addresses; so the guest gets such an address and a connect to it dials the name.
type nameBook struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string
}

const (
	nameBookFirst = 240 << 24
	nameBookMax   = 1 << 16 // names of one pod
)

func (b *nameBook) address(name string) (netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.byName[name]; ok {
		return a, nil
	}
	if b.byName == nil {
		b.byName, b.byAddr = map[string]netip.Addr{}, map[netip.Addr]string{}
	}
	if len(b.byName) >= nameBookMax {
		return netip.Addr{}, fmt.Errorf("a pod has looked up more than %d names", nameBookMax)
	}
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], nameBookFirst+1+uint32(len(b.byName)))
	a := netip.AddrFrom4(raw)
	b.byName[name], b.byAddr[a] = a, name
	return a, nil
}

func (b *nameBook) name(a netip.Addr) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, ok := b.byAddr[a]
	return name, ok
}
