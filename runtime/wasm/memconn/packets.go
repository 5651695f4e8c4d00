package memconn

import (
	"net"
	"net/netip"
	"sync"
)

// packetBacklog is how many datagrams wait for a guest; later ones are lost,
// as datagrams may be.
const packetBacklog = 256

// packetBytes bounds the bytes of those that wait, as net.core.rmem_default.
const packetBytes = 208 << 10

// Packets is a datagram socket: a queue of what came, and a way to send.
type Packets struct {
	send  func(b []byte, to netip.AddrPort) error
	local netip.AddrPort

	mu      sync.Mutex
	queue   []packet
	waiting int // bytes in queue
	notify  func()
	onClose func()
	closed  bool
}

type packet struct {
	data []byte
	from netip.AddrPort
}

// NewPackets returns a socket on local that sends through send, which must not
// keep the bytes and should not block for long. onClose is called once by Close.
func NewPackets(local netip.AddrPort, send func([]byte, netip.AddrPort) error, onClose func()) *Packets {
	return &Packets{send: send, local: local, onClose: onClose}
}

// LocalAddr returns the address that was given to NewPackets.
func (p *Packets) LocalAddr() netip.AddrPort { return p.local }

// Deliver queues a copy of a datagram for the guest and reports whether there
// was room.
func (p *Packets) Deliver(b []byte, from netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.queue) >= packetBacklog || p.waiting+len(b) > packetBytes {
		return false
	}
	p.waiting += len(b)
	p.queue = append(p.queue, packet{append([]byte(nil), b...), from})
	if p.notify != nil {
		p.notify()
	}
	return true
}

// TryReadFrom takes the next datagram; what does not fit into b is lost.
func (p *Packets) TryReadFrom(b []byte, peek bool) (int, netip.AddrPort, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		if p.closed {
			return 0, netip.AddrPort{}, net.ErrClosed
		}
		return 0, netip.AddrPort{}, ErrWouldBlock
	}
	first := p.queue[0]
	n := copy(b, first.data)
	if !peek {
		p.waiting -= len(first.data)
		p.queue[0] = packet{}
		if p.queue = p.queue[1:]; len(p.queue) == 0 {
			p.queue = nil
		}
	}
	return n, first.from, nil
}

// WriteTo sends one datagram.
func (p *Packets) WriteTo(b []byte, to netip.AddrPort) error { return p.send(b, to) }

// Ready returns the size of the next datagram, and whether there is one or the
// socket has ended.
func (p *Packets) Ready() (size int, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return 0, p.closed
	}
	return len(p.queue[0].data), true
}

// SetNotify sets a function that is called when a datagram arrives. It must
// not block nor call the socket.
func (p *Packets) SetNotify(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notify = f
}

// End makes reading fail once the queue is empty.
func (p *Packets) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.notify != nil {
		p.notify()
	}
}

// Close ends the socket and drops what waits.
func (p *Packets) Close() error {
	p.mu.Lock()
	done := p.onClose
	p.onClose, p.queue, p.waiting = nil, nil, 0
	p.mu.Unlock()
	p.End()
	if done != nil {
		done()
	}
	return nil
}
