package wasi

import (
	"net"
	"net/netip"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// socket is a stream socket in any of its states: fresh (neither listener nor
// conn), connecting, listening, connected.
type socket struct {
	guest       *Guest
	nonblocking bool
	preopened   bool
	family      uint32 // as sock_open was told; 0 for preopened and accepted ones
	listener    *memconn.Listener
	conn        *memconn.Conn
	bound       netip.AddrPort
	dial        *dialing
	pending     Errno // SO_ERROR
}

func (s *socket) status() status {
	return status{kind: typeSocketStream, flags: nonblockFlag(s.nonblocking), rights: rightsStream, rightsOpened: rightsStream}
}

func (s *socket) blocking() bool      { return !s.nonblocking }
func (s *socket) setBlocking(on bool) { s.nonblocking = !on }

func (s *socket) close() Errno {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.dial != nil {
		s.dial.abandon()
	}
	if s.conn != nil {
		s.conn.SetNotify(nil)
		_ = s.conn.Close()
	}
	return OK
}

// settle moves the result of a finished connect into the socket.
func (s *socket) settle() {
	if s.dial == nil {
		return
	}
	done, conn, err := s.dial.result()
	if !done {
		return
	}
	s.dial = nil
	if err != nil {
		s.pending = dialErrno(err)
		return
	}
	s.attach(conn)
}

func (s *socket) attach(conn *memconn.Conn) {
	s.conn = conn
	conn.SetNotify(s.guest.ring)
	if !conn.Watch(s.guest.watcher) {
		conn.Abort()
	}
}

// connected says why bytes cannot be moved, OK when they can.
func (s *socket) connected() Errno {
	s.settle()
	switch {
	case s.conn != nil:
		return OK
	case s.dial != nil:
		return EAGAIN
	case s.pending != OK:
		errno := s.pending
		s.pending = OK
		return errno
	}
	return ENOTCONN
}

func (s *socket) tryRead(bufs [][]byte) (int, Errno) {
	if errno := s.connected(); errno != OK {
		return 0, errno
	}
	return readConn(s.conn.TryRead, bufs)
}

func (s *socket) tryWrite(bufs [][]byte) (int, Errno) {
	if errno := s.connected(); errno != OK {
		return 0, errno
	}
	return writeConn(s.conn.TryWrite, bufs)
}

func writeConn(write func([]byte) (int, error), bufs [][]byte) (total int, _ Errno) {
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		n, err := write(b)
		total += n
		if err != nil && total == 0 {
			return 0, toErrno(err)
		}
		if err != nil || n < len(b) {
			break
		}
	}
	return total, OK
}

func (s *socket) ready() readiness {
	s.settle()
	switch {
	case s.listener != nil:
		waiting, ended := s.listener.Ready()
		return readiness{read: waiting > 0 || ended, unread: waiting}
	case s.conn != nil:
		st := s.conn.StateToPoll()
		return readiness{
			read: st.Unread > 0 || st.EOF || st.Reset, unread: st.Unread,
			write:  st.Room > 0 || st.Broken || st.Reset,
			hangup: st.EOF && st.Broken || st.Reset,
		}
	case s.dial != nil:
		return readiness{}
	case s.pending != OK:
		return readiness{read: true, write: true, hangup: true}
	}
	return readiness{hangup: true, write: true} // as Linux tells of a fresh socket
}

// sockAccept serves sock_accept: (fd, flags, *fd).
func sockAccept(g *Guest, m memory, p []uint64) Errno {
	return g.accept(m, p[0], uint16(p[1]), p[2])
}

// sockAcceptShort serves the variant of the first WasmEdge version: (fd, *fd).
func sockAcceptShort(g *Guest, m memory, p []uint64) Errno { return g.accept(m, p[0], 0, p[1]) }

func (g *Guest) accept(m memory, fd uint64, flags uint16, result uint64) Errno {
	s, errno := getAs[*socket](&g.table, fd, ENOTSOCK)
	if errno != OK {
		return errno
	}
	if s.listener == nil || flags&^flagNonblock != 0 {
		return EINVAL
	}
	if !g.table.hasRoomForSocket() {
		return EMFILE
	}
	var conn *memconn.Conn
	errno = g.await(s.nonblocking, func() Errno {
		c, err := s.listener.TryAccept()
		if err == net.ErrClosed {
			// What Linux answers after shutdown(2) of a listener. Not
			// ECONNABORTED: Go takes that as a reason to try again.
			return EINVAL
		}
		conn = c
		return toErrno(err)
	})
	if errno != OK {
		return errno
	}
	accepted := &socket{guest: g, nonblocking: flags&flagNonblock != 0}
	accepted.attach(conn)
	n, errno := g.table.add(accepted)
	if errno != OK {
		accepted.close()
		return errno
	}
	return m.put32(result, uint64(n))
}

// sockRecv serves sock_recv: (fd, iovs, count, flags, *n, *outflags).
func sockRecv(g *Guest, m memory, p []uint64) Errno {
	const peek, waitAll = 1, 2
	s, errno := g.endpoint(p[0])
	if errno != OK {
		return errno
	}
	if p[3]&^(peek|waitAll) != 0 {
		return ENOTSUP
	}
	errno = g.transfer(m, p[1], p[2], p[4], func(bufs [][]byte) (n int, _ Errno) {
		errno := g.await(!s.blocking(), func() (errno Errno) {
			n, errno = recvOnce(s, bufs, p[3]&peek != 0)
			return errno
		})
		if p[3] != waitAll || !s.blocking() {
			return n, errno
		}
		for rest := advance(bufs, n); errno == OK && len(rest) > 0; {
			more := 0
			errno = g.await(false, func() (errno Errno) {
				more, errno = s.tryRead(rest)
				return errno
			})
			if more == 0 {
				return n, OK
			}
			n += more
			rest = advance(rest, more)
		}
		return n, errno
	})
	if errno != OK {
		return errno
	}
	if !m.WriteUint16Le(uint32(p[5]), 0) {
		return EFAULT
	}
	return OK
}

// recvOnce reads from a socket of either kind.
func recvOnce(s stream, bufs [][]byte, peek bool) (int, Errno) {
	if !peek {
		return s.tryRead(bufs)
	}
	if packets, ok := s.(*packetSocket); ok {
		n, _, errno := packets.receive(bufs, true)
		return n, errno
	}
	tcp := s.(*socket)
	if errno := tcp.connected(); errno != OK {
		return 0, errno
	}
	for _, b := range bufs {
		if len(b) > 0 {
			return readConn(tcp.conn.TryPeek, [][]byte{b})
		}
	}
	return 0, OK
}

// endpoint returns a socket of any kind.
func (g *Guest) endpoint(fd uint64) (stream, Errno) {
	d, errno := g.table.get(fd)
	if errno != OK {
		return nil, errno
	}
	switch d := d.(type) {
	case *socket:
		return d, OK
	case *packetSocket:
		return d, OK
	}
	return nil, ENOTSOCK
}

// sockSend serves sock_send: (fd, iovs, count, flags, *n).
func sockSend(g *Guest, m memory, p []uint64) Errno {
	s, errno := g.endpoint(p[0])
	if errno != OK {
		return errno
	}
	if uint32(p[3]) != 0 {
		return EINVAL // the specification reserves every flag
	}
	return g.transfer(m, p[1], p[2], p[4], func(bufs [][]byte) (int, Errno) {
		return g.writeStream(s, bufs)
	})
}

// sockShutdown serves sock_shutdown: (fd, how).
func sockShutdown(g *Guest, _ memory, p []uint64) Errno {
	const reading, writing = 1, 2
	s, errno := getAs[*socket](&g.table, p[0], ENOTSOCK)
	if errno != OK {
		return errno
	}
	how := uint32(p[1])
	if how == 0 || how > reading|writing {
		return EINVAL
	}
	if s.listener != nil {
		s.listener.End()
		return OK
	}
	if errno := s.connected(); errno != OK {
		return ENOTCONN
	}
	if how&reading != 0 {
		_ = s.conn.CloseRead()
	}
	if how&writing != 0 {
		_ = s.conn.CloseWrite()
	}
	return OK
}

// addrPort reads the address of a net.Addr; the zero address when it has none.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case nil:
	case *net.TCPAddr:
		return unmapped(a.AddrPort())
	case *net.UDPAddr:
		return unmapped(a.AddrPort())
	default:
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			return unmapped(ap)
		}
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
