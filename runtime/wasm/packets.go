package wasm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// datagrams is the outside of one datagram socket: a kernel socket on the
// pod's address that receives, and one dialled connection per destination that
// did not write first, so that names, Services and policies of Pod.Dial apply.
type datagrams struct {
	net    *podNet
	socket *memconn.Packets
	kernel *net.UDPConn // nil: nothing can be received unasked

	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	callers map[netip.AddrPort]struct{} // who wrote to the kernel socket
	dialled map[netip.AddrPort]net.Conn
	closed  bool
}

const (
	// maxPeers bounds what a socket remembers of those who wrote to it, and how
	// many destinations all sockets of a pod have at a time: each is a
	// descriptor of the host, a goroutine and a buffer.
	maxPeers = 1024
	// peerIdle is how long a destination that is neither written to nor answers
	// keeps its place, as a NAT would (RFC 4787, section 4.3).
	peerIdle = 2 * time.Minute
)

func (n *podNet) openPackets(number uint16) (*memconn.Packets, error) {
	if !n.takePackets() {
		return nil, fmt.Errorf("datagram port %d is one too many: %w", number, syscall.EMFILE)
	}
	d := &datagrams{net: n, callers: map[netip.AddrPort]struct{}{}, dialled: map[netip.AddrPort]net.Conn{}}
	at := netip.AddrPortFrom(n.pod.IP, number)
	if at.Addr().IsValid() {
		kernel, err := whenFree(func() (*net.UDPConn, error) { return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)) })
		switch {
		case err == nil:
			d.kernel = kernel
			at = kernel.LocalAddr().(*net.UDPAddr).AddrPort()
		case errors.Is(err, syscall.EADDRINUSE):
			n.givePackets()
			return nil, fmt.Errorf("%s/udp is in use by another process: end that process or choose another containerPort: %w", at, err)
		default:
			n.log.Info("datagram port receives nothing from outside", "address", at.String(), "error", err)
		}
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.socket = memconn.NewPackets(at, d.send, d.close)
	if d.kernel == nil {
		return d.socket, nil
	}
	n.mu.Lock()
	closing := n.closing
	if !closing {
		n.work.Go(d.receive)
	}
	n.mu.Unlock()
	if closing {
		d.close()
		return nil, net.ErrClosed
	}
	return d.socket, nil
}

// takePackets takes a place for a datagram socket.
func (n *podNet) takePackets() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.packets >= maxPorts || !n.fds.Take() {
		return false
	}
	n.packets++
	return true
}

func (n *podNet) givePackets() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.packets--
	n.fds.Give()
}

func (d *datagrams) receive() {
	buf := make([]byte, memconn.MaxBuffer)
	for {
		n, from, err := d.kernel.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		d.mu.Lock()
		if len(d.callers) >= maxPeers {
			clear(d.callers)
		}
		d.callers[from] = struct{}{}
		d.mu.Unlock()
		d.socket.Deliver(buf[:n], from)
	}
}

func (d *datagrams) send(b []byte, to netip.AddrPort) error {
	d.mu.Lock()
	_, caller := d.callers[to]
	c := d.dialled[to]
	d.mu.Unlock()
	own := d.net.isOwn(to.Addr())
	if own { // a port of the pod: through the pod's address, never the host's
		to = netip.AddrPortFrom(d.net.pod.IP, to.Port())
	}
	if (caller || own) && d.kernel != nil {
		_, err := d.kernel.WriteToUDPAddrPort(b, to)
		return err
	}
	if c == nil {
		var err error
		if c, err = d.dial(to); err != nil {
			return err
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(peerIdle))
	_, err := c.Write(b)
	if !errors.Is(err, net.ErrClosed) {
		return err
	}
	if c, err = d.dial(to); err != nil { // it had just been idle for too long
		return err
	}
	_, err = c.Write(b)
	return err
}

// dialTime bounds a datagram dial: it needs at most a lookup.
const dialTime = 5 * time.Second

func (d *datagrams) dial(to netip.AddrPort) (net.Conn, error) {
	if d.net.pod.Dial == nil {
		return nil, syscall.EACCES
	}
	host := to.Addr().String()
	if name, ok := d.net.names.name(to.Addr()); ok {
		host = name
	}
	ctx, cancel := context.WithTimeout(d.ctx, dialTime)
	defer cancel()
	c, err := d.net.pod.Dial(ctx, "udp", net.JoinHostPort(host, fmt.Sprint(to.Port())))
	if err != nil {
		return nil, err
	}
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.net.closing {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	if d.net.peers >= maxPeers || !d.net.fds.Take() {
		_ = c.Close()
		return nil, syscall.EMFILE
	}
	d.net.peers++
	d.dialled[to] = c
	d.net.work.Go(func() { d.replies(c, to) })
	return c, nil
}

// replies delivers what a destination answers, as coming from where the guest
// sent to.
func (d *datagrams) replies(c net.Conn, to netip.AddrPort) {
	buf := make([]byte, memconn.MaxBuffer)
	for {
		n, err := c.Read(buf)
		if err != nil {
			break
		}
		_ = c.SetReadDeadline(time.Now().Add(peerIdle))
		d.socket.Deliver(buf[:n], to)
	}
	_ = c.Close()
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	d.net.peers--
	d.net.fds.Give()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dialled, to)
}

func (d *datagrams) close() {
	d.cancel()
	if d.kernel != nil {
		_ = d.kernel.Close()
	}
	d.mu.Lock()
	d.closed = true
	for _, c := range d.dialled {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.net.givePackets()
}
