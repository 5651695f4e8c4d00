package wasi

import (
	"net/netip"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// maxDatagram is the largest payload of UDP over IPv4.
const maxDatagram = 65507

// packetSocket is a datagram socket. packets is nil until it is bound, which
// the first use does.
type packetSocket struct {
	guest       *Guest
	nonblocking bool
	preopened   bool
	packets     *memconn.Packets
	peer        netip.AddrPort // by sock_connect
}

func (s *packetSocket) status() status {
	return status{kind: typeSocketDgram, flags: nonblockFlag(s.nonblocking), rights: rightsStream, rightsOpened: rightsStream}
}

func (s *packetSocket) blocking() bool      { return !s.nonblocking }
func (s *packetSocket) setBlocking(on bool) { s.nonblocking = !on }

func (s *packetSocket) close() Errno {
	if s.packets != nil {
		_ = s.packets.Close()
	}
	return OK
}

func (s *packetSocket) bind(port uint16) Errno {
	if s.packets != nil {
		return EINVAL
	}
	if s.guest.network == nil {
		return EACCES
	}
	packets, err := s.guest.network.Packets(port)
	if err != nil {
		return toErrno(err)
	}
	packets.SetNotify(s.guest.ring)
	s.packets = packets
	return OK
}

func (s *packetSocket) ensureBound() Errno {
	if s.packets != nil {
		return OK
	}
	return s.bind(0)
}

func (s *packetSocket) tryRead(bufs [][]byte) (int, Errno) {
	n, _, errno := s.receive(bufs, false)
	return n, errno
}

// receive takes one datagram; a connected socket drops those of others.
func (s *packetSocket) receive(bufs [][]byte, peek bool) (int, netip.AddrPort, Errno) {
	if errno := s.ensureBound(); errno != OK {
		return 0, netip.AddrPort{}, errno
	}
	s.guest.scratch = sized(s.guest.scratch, maxDatagram)
	for {
		n, from, err := s.packets.TryReadFrom(s.guest.scratch, peek)
		if err != nil {
			return 0, from, toErrno(err)
		}
		if s.peer.IsValid() && from != s.peer {
			if peek {
				_, _, _ = s.packets.TryReadFrom(nil, false)
			}
			continue
		}
		rest := s.guest.scratch[:n]
		total := 0
		for _, b := range bufs {
			moved := copy(b, rest)
			rest = rest[moved:]
			total += moved
		}
		return total, from, OK
	}
}

func (s *packetSocket) tryWrite(bufs [][]byte) (int, Errno) {
	if !s.peer.IsValid() {
		return 0, EDESTADDRREQ
	}
	return s.sendTo(bufs, s.peer)
}

func (s *packetSocket) sendTo(bufs [][]byte, to netip.AddrPort) (int, Errno) {
	if errno := s.ensureBound(); errno != OK {
		return 0, errno
	}
	data := s.guest.scratch[:0]
	for _, b := range bufs { // views of one memory may add up to far more than it
		if len(data)+len(b) > maxDatagram {
			return 0, EMSGSIZE
		}
		data = append(data, b...)
	}
	s.guest.scratch = data
	if err := s.packets.WriteTo(data, to); err != nil {
		return 0, dialErrno(err)
	}
	return len(data), OK
}

func (s *packetSocket) ready() readiness {
	if s.packets == nil {
		return readiness{write: true}
	}
	size, ready := s.packets.Ready()
	return readiness{read: ready, unread: size, write: true}
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
