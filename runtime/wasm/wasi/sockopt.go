package wasi

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// Socket options by the extension's own numbers, on its level 0.
const (
	optReuseAddr  = 0
	optType       = 1
	optError      = 2
	optSendBuffer = 5
	optRecvBuffer = 6
	optLinger     = 9
	optRecvTime   = 11
	optSendTime   = 12
	optAccepts    = 13
	optDevice     = 14

	levelSocket = 0
)

// sockGetOpt serves sock_getsockopt: (fd, level, name, *value, size).
func sockGetOpt(g *Guest, m memory, p []uint64) Errno {
	s, errno := g.endpoint(p[0])
	if errno != OK {
		return errno
	}
	if uint32(p[4]) != 4 {
		return EINVAL
	}
	var value uint64
	if uint32(p[1]) == levelSocket {
		switch uint32(p[2]) {
		case optType:
			value = socketStream
			if s.status().kind == typeSocketDgram {
				value = socketDatagram
			}
		case optError:
			value = uint64(takeError(s))
		case optSendBuffer, optRecvBuffer:
			value = memconn.MaxBuffer
		case optAccepts:
			if tcp, ok := s.(*socket); ok && tcp.listener != nil {
				value = 1
			}
		case optLinger, optRecvTime, optSendTime, optDevice:
			return ENOPROTOOPT
		}
	}
	return m.put32(p[3], value)
}

// takeError returns the result of a connect once, as SO_ERROR does.
func takeError(s stream) Errno {
	tcp, ok := s.(*socket)
	if !ok {
		return OK
	}
	tcp.settle()
	errno := tcp.pending
	tcp.pending = OK
	return errno
}

// sockSetOpt serves sock_setsockopt. Options of TCP and buffers mean nothing to
// a connection in memory and are accepted; time-outs are not, as a guest that
// asks for one would wait for ever.
func sockSetOpt(g *Guest, m memory, p []uint64) Errno {
	if _, errno := g.endpoint(p[0]); errno != OK {
		return errno
	}
	if _, ok := m.bytes(p[3], p[4]); !ok {
		return EFAULT
	}
	if uint32(p[1]) == levelSocket {
		switch uint32(p[2]) {
		case optRecvTime, optSendTime, optDevice, optType, optError, optAccepts:
			return ENOPROTOOPT
		}
	}
	return OK
}

// Layout of the extension's addrinfo: flags u16, family u8, type u8, protocol
// u32, address length u32, *sockaddr, *name, name length u32, *next. Its
// sockaddr: family u8, length u32 at 4, *data at 8; data: port (big-endian),
// address.
const (
	addrinfoSize = 28
	sockaddrSize = 12

	protocolTCP = 1
	protocolUDP = 2

	maxHost = 253 // of a host name: RFC 1035, section 2.3.4
)

// sockAddrInfo serves sock_getaddrinfo: (name, len, service, len, *hints,
// **results, max, *count). The guest has allocated a list of results.
func sockAddrInfo(g *Guest, m memory, p []uint64) Errno {
	name, errno := m.text(p[0], p[1])
	if errno != OK {
		return errno
	}
	service, errno := m.text(p[2], p[3])
	if errno != OK {
		return errno
	}
	hints, ok1 := m.bytes(p[4], addrinfoSize)
	next, ok2 := m.ReadUint32Le(uint32(p[5]))
	if !ok1 || !ok2 {
		return EFAULT
	}
	if g.network == nil {
		return EACCES
	}
	family, kind := hints[2], hints[3]
	port, err := servicePort(strings.TrimRight(service, "\x00"))
	if err != nil {
		return EINVAL
	}
	name = strings.TrimRight(name, "\x00")
	if len(name) > maxHost {
		return ENAMETOOLONG
	}
	found, errno := g.resolve(name)
	if errno != OK {
		return errno
	}
	count := uint64(0)
	for _, ip := range found {
		if family == familyInet4 && !ip.Is4() || family == familyInet6 && ip.Is4() {
			continue
		}
		if next == 0 || count == p[6] {
			break
		}
		if next, errno = m.putAddrInfo(next, netip.AddrPortFrom(ip, port), kind); errno != OK {
			return errno
		}
		count++
	}
	return m.put32(p[7], count)
}

// putAddrInfo fills one result and returns the next one's place.
func (m memory) putAddrInfo(at uint32, a netip.AddrPort, kind byte) (next uint32, _ Errno) {
	info, ok := m.Read(at, addrinfoSize)
	if !ok {
		return 0, EFAULT
	}
	sockaddr, ok := m.Read(binary.LittleEndian.Uint32(info[12:]), sockaddrSize)
	if !ok {
		return 0, EFAULT
	}
	raw := a.Addr().AsSlice()
	data, ok := m.Read(binary.LittleEndian.Uint32(sockaddr[8:]), uint32(2+len(raw)))
	if !ok {
		return 0, EFAULT
	}
	family := byte(familyInet4)
	if a.Addr().Is6() {
		family = familyInet6
	}
	binary.BigEndian.PutUint16(data, a.Port())
	copy(data[2:], raw)
	sockaddr[0] = family
	info[2] = family
	if kind == 0 {
		kind = socketStream
	}
	info[3] = kind
	protocol := uint32(protocolTCP)
	if kind == socketDatagram {
		protocol = protocolUDP
	}
	binary.LittleEndian.PutUint32(info[4:], protocol)
	binary.LittleEndian.PutUint32(info[8:], 16) // sizeof(sockaddr), as its clients expect
	binary.LittleEndian.PutUint32(info[20:], 0)
	return binary.LittleEndian.Uint32(info[24:]), OK
}

// resolve waits for a lookup in a goroutine, because a lookup cannot be polled.
func (g *Guest) resolve(host string) ([]netip.Addr, Errno) {
	if host == "" {
		return []netip.Addr{netip.IPv4Unspecified()}, OK
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, OK
	}
	var (
		mu    sync.Mutex
		done  bool
		found []netip.Addr
		fault error
	)
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	g.jobs.run(func() {
		addrs, err := g.network.Resolve(ctx, host)
		mu.Lock()
		done, found, fault = true, addrs, err
		mu.Unlock()
		g.ring()
	})
	errno := g.await(false, func() Errno {
		mu.Lock()
		defer mu.Unlock()
		if !done {
			return EAGAIN
		}
		if fault != nil {
			return ENOENT
		}
		return OK
	})
	return found, errno
}

// servicePort reads a port; the few names are those that clients use without
// giving a number.
func servicePort(service string) (uint16, error) {
	switch service {
	case "":
		return 0, nil
	case "http":
		return 80, nil
	case "https":
		return 443, nil
	}
	n, err := strconv.ParseUint(service, 10, 16)
	return uint16(n), err
}
