package wasi

import (
	"bytes"
	"testing"
)

// end is what FuzzSockets knows of one socket that is open.
type end struct {
	fd       uint64
	salt     byte // tells its bytes from those of others
	listens  bool
	waiting  []*end // connected to it, in order, and not accepted yet
	peer     *end   // nil until it is accepted
	sent     int
	received int
}

// stream is what an end sends from a position on.
func (e *end) stream(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(from+i)*7 ^ e.salt
	}
	return b
}

// network is a guest together with what must be true of its sockets.
type network struct {
	*rawGuest
	ends  []*end
	ports map[uint64]*end // who listens
	salt  byte
}

// opened notes a new descriptor, which is the lowest that is free.
func (n *network) opened() *end {
	fd := n.u32(atResult)
	for low := range fd {
		if _, errno := n.table.get(low); errno != OK {
			n.t.Errorf("descriptor %d was given and %d is free", fd, low)
		}
	}
	n.salt += 37
	e := &end{fd: fd, salt: n.salt}
	n.ends = append(n.ends, e)
	if errno := n.call("fd_fdstat_set_flags", fd, flagNonblock); errno != OK {
		n.t.Errorf("errno %d", errno)
	}
	return e
}

// step makes the call that op says on e, with arg for its argument.
func (n *network) step(op byte, e *end, arg byte) {
	port := 8000 + uint64(arg%4)
	switch op % 14 {
	case 0:
		if n.call("sock_open", uint64(arg%4), uint64(arg/4%4), atResult) == OK {
			n.opened()
		}
	case 1:
		n.call("sock_bind", e.fd, n.address(loopHost, arg&16 != 0), port)
	case 2:
		n.listens(e)
	case 3:
		n.connects(e, port)
	case 4:
		n.accepts(e)
	case 5:
		n.sends(e, int(arg))
	case 6, 7:
		n.receives(e, uint64(arg), op%14 == 7)
	case 8:
		n.m.Write(atData, bytes.Repeat([]byte{arg}, int(arg)))
		iovs, count := n.vector(atData, uint64(arg))
		if _, datagram := n.table.open[e.fd].(*packetSocket); datagram {
			n.call("sock_send_to", e.fd, iovs, count, n.address(loopHost, true), port, 0, atResult)
		}
	case 9:
		n.call("sock_shutdown", e.fd, uint64(arg%4))
	case 10:
		n.closes(e)
	case 11:
		n.call("sock_getsockopt", e.fd, uint64(arg%2), uint64(arg/2%16), atResult, 4)
		n.call("sock_setsockopt", e.fd, uint64(arg%2), uint64(arg/2%16), atData, 4)
	case 12:
		n.call("sock_getlocaladdr", e.fd, n.address(loopHost, arg&1 != 0), atResult)
		n.call("sock_getpeeraddr", e.fd, n.address(loopHost, arg&1 != 0), atResult)
	case 13:
		if _, _, errno := n.rawGuest.poll(sub{}, sub{kind: 1 + arg%2, fd: uint32(e.fd)}); errno != OK {
			n.t.Errorf("poll: errno %d", errno)
		}
	}
}

func (n *network) listens(e *end) {
	if n.call("sock_listen", e.fd, 5) != OK || e.listens {
		return
	}
	e.listens = true
	n.call("sock_getlocaladdr", e.fd, n.address(loopHost, true), atResult)
	n.ports[n.u32(atResult)] = e // loop lets the last one have it
}

func (n *network) connects(e *end, port uint64) {
	s, stream := n.table.open[e.fd].(*socket)
	if !stream { // a datagram socket would then drop what others send
		return
	}
	before := s.conn
	n.call("sock_connect", e.fd, n.address(loopHost, true), port)
	for s.settle(); s.dial != nil; s.settle() {
		n.park(forever)
	}
	if s.conn == nil || before != nil {
		return
	}
	if at := n.ports[port]; at != nil {
		at.waiting = append(at.waiting, e)
	} else {
		n.t.Errorf("connected to port %d, where nobody listens", port)
	}
}

func (n *network) accepts(e *end) {
	if n.call("sock_accept", e.fd, 0, atResult) != OK {
		return
	}
	accepted := n.opened()
	if len(e.waiting) == 0 {
		n.t.Error("accepted what nobody has connected")
		return
	}
	accepted.peer, e.waiting[0].peer = e.waiting[0], accepted
	e.waiting = e.waiting[1:]
}

func (n *network) sends(e *end, size int) {
	n.m.Write(atData, e.stream(e.sent, size))
	iovs, count := n.vector(atData, uint64(size))
	if n.call("sock_send", e.fd, iovs, count, 0, atResult) == OK {
		e.sent += int(n.u32(atResult))
	}
}

// receives checks that what comes is what was sent, in order: of a stream the
// next bytes, of a datagram all of it.
func (n *network) receives(e *end, size uint64, peek bool) {
	_, datagram := n.table.open[e.fd].(*packetSocket)
	if datagram {
		size = 300
	}
	flags := uint64(0)
	if peek {
		flags = 1
	}
	iovs, count := n.vector(atData, size)
	if n.call("sock_recv", e.fd, iovs, count, flags, atResult, atExtra) != OK {
		return
	}
	got := []byte(n.text(atData, n.u32(atResult)))
	switch {
	case datagram:
		if want := bytes.Repeat([]byte{byte(len(got))}, len(got)); !bytes.Equal(got, want) {
			n.t.Errorf("a datagram of %d bytes is %x", len(got), got)
		}
	case len(got) == 0:
	case e.peer == nil || e.received+len(got) > e.peer.sent || !bytes.Equal(got, e.peer.stream(e.received, len(got))):
		n.t.Errorf("received %x after %d bytes, from %+v", got, e.received, e.peer)
	case !peek:
		e.received += len(got)
	}
}

func (n *network) closes(e *end) {
	n.must(OK, "fd_close", e.fd)
	n.must(EBADF, "fd_close", e.fd)
	for i, other := range n.ends {
		if other == e {
			n.ends = append(n.ends[:i:i], n.ends[i+1:]...)
			break
		}
	}
}

// FuzzSockets makes any calls on any sockets of a guest: bytes arrive in order
// and as they were sent, datagrams whole, descriptors are given lowest first,
// and only what has connected is accepted.
func FuzzSockets(f *testing.F) {
	pair := []byte{0, 0, 9, 1, 0, 0, 2, 0, 0, 0, 0, 9, 3, 1, 0, 4, 0, 0}
	f.Add(pair)
	f.Add(append(pair, 5, 1, 200, 7, 2, 99, 6, 2, 99, 6, 2, 200, 9, 1, 2, 5, 2, 3, 6, 1, 3, 10, 2, 0, 5, 1, 1, 6, 1, 9))
	f.Add([]byte{0, 0, 5, 0, 0, 5, 1, 0, 0, 1, 1, 1, 8, 1, 0, 8, 1, 40, 6, 0, 0, 7, 0, 0, 6, 0, 0, 13, 0, 0, 12, 0, 0, 11, 0, 3, 10, 0, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		n := &network{rawGuest: newRaw(t, hostDoor, Config{Network: newLoop(t)}), ports: map[uint64]*end{}}
		nobody := &end{fd: fdNone}
		for ; len(program) >= 3; program = program[3:] {
			e := nobody
			if len(n.ends) > 0 {
				e = n.ends[int(program[1])%len(n.ends)]
			} else if program[0]%14 != 0 {
				continue
			}
			n.step(program[0], e, program[2])
		}
		if n.table.sockets != len(n.ends) {
			t.Errorf("%d sockets are counted, %d are open", n.table.sockets, len(n.ends))
		}
	})
}
