package wasi

import (
	"encoding/binary"
	"net/netip"
)

// The WasmEdge extension: sockets that a guest opens itself. Its numbers are
// its own, neither those of POSIX nor of Linux.
const (
	familyInet4 = 1
	familyInet6 = 2

	socketDatagram = 1
	socketStream   = 2

	// wideAddress is the size of an address buffer of the second version: two
	// bytes of family, then the address. Shorter ones hold the bare address.
	wideAddress = 128
)

// sockOpen serves sock_open: (family, type, *fd).
func sockOpen(g *Guest, m memory, p []uint64) Errno {
	if g.network == nil {
		return EACCES
	}
	family := uint32(p[0])
	if family != familyInet4 && family != familyInet6 {
		return EAFNOSUPPORT
	}
	if !g.table.hasRoomForSocket() {
		return EMFILE
	}
	var d descriptor
	switch uint32(p[1]) {
	case socketStream:
		d = &socket{guest: g, family: family}
	case socketDatagram:
		d = &packetSocket{guest: g}
	default:
		return EPROTONOSUPPORT
	}
	fd, errno := g.table.add(d)
	if errno != OK {
		return errno
	}
	return m.put32(p[2], uint64(fd))
}

// addressBuffer decodes the {buffer, length} of an address argument.
func (m memory) addressBuffer(addr uint64) ([]byte, Errno) {
	raw, ok := m.bytes(addr, 8)
	if !ok {
		return nil, EFAULT
	}
	b, ok := m.Read(binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:]))
	if !ok {
		return nil, EFAULT
	}
	return b, OK
}

func (m memory) address(addr, port uint64) (netip.AddrPort, Errno) {
	b, errno := m.addressBuffer(addr)
	if errno != OK {
		return netip.AddrPort{}, errno
	}
	if len(b) >= wideAddress {
		family := binary.LittleEndian.Uint16(b)
		b = b[2:18]
		if family == familyInet4 {
			b = b[:4]
		} else if family != familyInet6 {
			return netip.AddrPort{}, EAFNOSUPPORT
		}
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok || uint32(port) > 0xffff {
		return netip.AddrPort{}, EINVAL
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), OK
}

// putAddress stores an address in either version's way and returns the
// address type of the first one: 4 or 6.
func (m memory) putAddress(addr uint64, a netip.Addr) (uint64, Errno) {
	b, errno := m.addressBuffer(addr)
	if errno != OK {
		return 0, errno
	}
	family, kind := uint16(familyInet4), uint64(4)
	if a.Is6() {
		family, kind = familyInet6, 6
	}
	if len(b) >= wideAddress {
		clear(b[:wideAddress])
		binary.LittleEndian.PutUint16(b, family)
		b = b[2:]
	}
	raw := a.AsSlice()
	if len(b) < len(raw) {
		return 0, EINVAL
	}
	copy(b, raw)
	return kind, OK
}

// sockBind serves sock_bind: (fd, *address, port). Whatever the address, a
// guest only ever listens on its pod's.
func sockBind(g *Guest, m memory, p []uint64) Errno {
	at, errno := m.address(p[1], p[2])
	if errno != OK {
		return errno
	}
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	switch d := d.(type) {
	case *socket:
		if d.listener != nil || d.conn != nil || d.bound.IsValid() {
			return EINVAL
		}
		d.bound = at
		return OK
	case *packetSocket:
		return d.bind(at.Port())
	}
	return ENOTSOCK
}

// sockListen serves sock_listen: (fd, backlog).
func sockListen(g *Guest, _ memory, p []uint64) Errno {
	s, errno := getAs[*socket](&g.table, p[0], ENOTSOCK)
	if errno != OK {
		return errno
	}
	if s.listener != nil {
		return OK
	}
	if s.conn != nil || s.dial != nil {
		return EISCONN
	}
	l, err := g.network.Listen(s.bound.Port())
	if err != nil {
		return toErrno(err)
	}
	l.SetNotify(g.ring)
	l.Watch(g.watcher)
	s.listener = l
	return OK
}

// sockConnect serves sock_connect: (fd, *address, port).
func sockConnect(g *Guest, m memory, p []uint64) Errno {
	to, errno := m.address(p[1], p[2])
	if errno != OK {
		return errno
	}
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	switch d := d.(type) {
	case *socket:
		return d.connect(to)
	case *packetSocket:
		d.peer = to
		return OK
	}
	return ENOTSOCK
}

// sockRecvFrom serves the second version's sock_recv_from:
// (fd, iovs, count, *address, flags, *port, *n, *outflags).
func sockRecvFrom(g *Guest, m memory, p []uint64) Errno {
	return g.receiveFrom(m, p[:5], p[5], p[6], p[7])
}

// sockRecvFromShort serves the first version's, which tells no port:
// (fd, iovs, count, *address, flags, *n, *outflags).
func sockRecvFromShort(g *Guest, m memory, p []uint64) Errno {
	return g.receiveFrom(m, p[:5], 0, p[5], p[6])
}

func (g *Guest) receiveFrom(m memory, p []uint64, port, count, outflags uint64) Errno {
	const peek = 1
	s, errno := g.endpoint(p[0])
	if errno != OK {
		return errno
	}
	var from netip.AddrPort
	errno = g.transfer(m, p[1], p[2], count, func(bufs [][]byte) (n int, _ Errno) {
		errno := g.await(!s.blocking(), func() (errno Errno) {
			switch s := s.(type) {
			case *packetSocket:
				n, from, errno = s.receive(bufs, p[4]&peek != 0)
			case *socket:
				if n, errno = recvOnce(s, bufs, p[4]&peek != 0); errno == OK {
					from = addrPort(s.conn.RemoteAddr())
				}
			}
			return errno
		})
		return n, errno
	})
	if errno != OK {
		return errno
	}
	if from.IsValid() {
		if _, errno := m.putAddress(p[3], from.Addr()); errno != OK {
			return errno
		}
	}
	if port != 0 {
		if errno := m.put32(port, uint64(from.Port())); errno != OK {
			return errno
		}
	}
	return m.put32(outflags, 0)
}

// sockSendTo serves sock_send_to: (fd, iovs, count, *address, port, flags, *n).
func sockSendTo(g *Guest, m memory, p []uint64) Errno {
	s, errno := g.endpoint(p[0])
	if errno != OK {
		return errno
	}
	packets, datagram := s.(*packetSocket)
	var to netip.AddrPort
	if datagram {
		if to, errno = m.address(p[3], p[4]); errno != OK {
			return errno
		}
	}
	return g.transfer(m, p[1], p[2], p[6], func(bufs [][]byte) (int, Errno) {
		if datagram {
			return packets.sendTo(bufs, to)
		}
		return g.writeStream(s, bufs) // a connected stream needs no address
	})
}

// sockLocalAddr serves sock_getlocaladdr: (fd, *address, *port).
func sockLocalAddr(g *Guest, m memory, p []uint64) Errno {
	return g.tellAddress(m, p[0], p[1], 0, p[2], localAddr)
}

// sockLocalAddrLong serves the first version: (fd, *address, *type, *port).
func sockLocalAddrLong(g *Guest, m memory, p []uint64) Errno {
	return g.tellAddress(m, p[0], p[1], p[2], p[3], localAddr)
}

// sockPeerAddr serves sock_getpeeraddr: (fd, *address, *port).
func sockPeerAddr(g *Guest, m memory, p []uint64) Errno {
	return g.tellAddress(m, p[0], p[1], 0, p[2], peerAddr)
}

// sockPeerAddrLong serves the first version: (fd, *address, *type, *port).
func sockPeerAddrLong(g *Guest, m memory, p []uint64) Errno {
	return g.tellAddress(m, p[0], p[1], p[2], p[3], peerAddr)
}

func (g *Guest) tellAddress(m memory, fd, addr, kindAt, portAt uint64, which func(stream) (netip.AddrPort, Errno)) Errno {
	s, errno := g.endpoint(fd)
	if errno != OK {
		return errno
	}
	a, errno := which(s)
	if errno != OK {
		return errno
	}
	kind, errno := m.putAddress(addr, a.Addr())
	if errno != OK {
		return errno
	}
	if kindAt != 0 {
		if errno := m.put32(kindAt, kind); errno != OK {
			return errno
		}
	}
	return m.put32(portAt, uint64(a.Port()))
}

func localAddr(s stream) (netip.AddrPort, Errno) {
	switch s := s.(type) {
	case *socket:
		s.settle()
		switch {
		case s.listener != nil:
			return addrPort(s.listener.Addr()), OK
		case s.conn != nil:
			return addrPort(s.conn.LocalAddr()), OK
		case s.bound.IsValid():
			return s.bound, OK
		}
	case *packetSocket:
		if s.packets != nil {
			return s.packets.LocalAddr(), OK
		}
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0), OK
}

func peerAddr(s stream) (netip.AddrPort, Errno) {
	switch s := s.(type) {
	case *socket:
		s.settle()
		if s.conn != nil {
			return addrPort(s.conn.RemoteAddr()), OK
		}
	case *packetSocket:
		if s.peer.IsValid() {
			return s.peer, OK
		}
	}
	return netip.AddrPort{}, ENOTCONN
}
