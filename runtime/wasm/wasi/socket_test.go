package wasi

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// loop is a network with one host, 192.0.2.1. Nothing answers on port 9.
type loop struct {
	mu      sync.Mutex
	ports   map[uint16]*memconn.Listener
	dialed  netip.AddrPort // last
	packets map[uint16]*memconn.Packets
}

const blackHole = 9

var loopHost = netip.MustParseAddr("192.0.2.1")

func newLoop(testing.TB) *loop {
	return &loop{ports: map[uint16]*memconn.Listener{}, packets: map[uint16]*memconn.Packets{}}
}

func (l *loop) Dial(ctx context.Context, to netip.AddrPort) (*memconn.Conn, error) {
	if to.Port() == blackHole {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialed = to
	if at := l.ports[to.Port()]; at != nil {
		return at.Dial(net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopHost, 40000)))
	}
	return nil, memconn.ErrRefused
}

func (l *loop) Listen(port uint16) (*memconn.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if port == 0 {
		port = uint16(50000 + len(l.ports))
	}
	at := memconn.NewListener(net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopHost, port)), nil)
	l.ports[port] = at
	return at, nil
}

func (l *loop) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	if host != "here" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{loopHost, netip.MustParseAddr("2001:db8::1")}, nil
}

func (l *loop) Packets(port uint16) (*memconn.Packets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if port == 0 {
		port = uint16(50000 + len(l.packets))
	}
	local := netip.AddrPortFrom(loopHost, port)
	p := memconn.NewPackets(local, func(b []byte, to netip.AddrPort) error {
		l.mu.Lock()
		other := l.packets[to.Port()]
		l.mu.Unlock()
		if other == nil {
			return memconn.ErrRefused
		}
		other.Deliver(b, local)
		return nil
	}, nil)
	l.packets[port] = p
	return p, nil
}

// address stores an address as the first version does, bare, or the second, wide.
func (r *rawGuest) address(a netip.Addr, wide bool) uint64 {
	raw := a.AsSlice()
	size := uint32(len(raw))
	if wide {
		size = wideAddress
		family := byte(familyInet4)
		if a.Is6() {
			family = familyInet6
		}
		raw = append([]byte{family, 0}, raw...)
	}
	r.m.WriteUint32Le(atAddress, atAddress+8)
	r.m.WriteUint32Le(atAddress+4, size)
	r.m.Write(atAddress+8, raw)
	return atAddress
}

func (r *rawGuest) socket(kind uint64) uint64 {
	r.t.Helper()
	r.must(OK, "sock_open", familyInet4, kind, atResult)
	return r.u32(atResult)
}

func (r *rawGuest) nonblocking(fd uint64) {
	r.t.Helper()
	r.must(OK, "fd_fdstat_set_flags", fd, flagNonblock)
}

// listen opens a listener on a port.
func (r *rawGuest) listen(port uint64) uint64 {
	r.t.Helper()
	fd := r.socket(socketStream)
	r.must(OK, "sock_bind", fd, r.address(loopHost, true), port)
	r.must(OK, "sock_listen", fd, 128)
	return fd
}

// pair returns both ends of a connection through the guest's own listener.
func (r *rawGuest) pair() (client, server uint64) {
	r.t.Helper()
	l := r.listen(8080)
	client = r.socket(socketStream)
	r.must(OK, "sock_connect", client, r.address(loopHost, false), 8080)
	r.must(OK, "sock_accept", l, 0, atResult)
	return client, r.u32(atResult)
}

// everyKind opens one descriptor of every kind.
func everyKind(r *rawGuest) []uint64 {
	client, server := r.pair()
	fds := []uint64{client, server, r.socket(socketStream), r.socket(socketDatagram)}
	p, n := r.path(atPath, "f")
	r.must(OK, "path_open", 3, 0, p, n, 0, rightsFile, 0, 0, atResult)
	return append(fds, r.u32(atResult))
}

func TestStreamBothWays(t *testing.T) { everywhere(t, testStreamBothWays) }

func testStreamBothWays(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	client, server := r.pair()
	if errno := r.write(client, "question"); errno != OK {
		t.Fatal(errno)
	}
	iovs, n := r.vector(atData+100, 4)
	r.must(OK, "sock_recv", server, iovs, n, 1, atResult, atExtra) // peek
	if got := r.text(atData+100, r.u32(atResult)); got != "ques" {
		t.Errorf("peeked %q", got)
	}
	if got, errno := r.read(server, 100); got != "question" {
		t.Errorf("%q, errno %d", got, errno)
	}
	r.must(OK, "sock_getpeeraddr", server, r.address(loopHost, true), atResult)
	if r.u32(atResult) != 40000 || r.text(atAddress+10, 4) != "\xc0\x00\x02\x01" {
		t.Errorf("peer port %d", r.u32(atResult))
	}
	if errno := r.first("sock_getlocaladdr", server, r.address(loopHost, false), atExtra, atResult); errno != OK ||
		r.u32(atResult) != 8080 || r.u32(atExtra) != 4 {
		t.Errorf("errno %d, local port %d, type %d", errno, r.u32(atResult), r.u32(atExtra))
	}
	r.must(ENOTSOCK, "sock_recv", 0, iovs, n, 0, atResult, atExtra)
	r.must(EISCONN, "sock_connect", client, r.address(loopHost, false), 8080)
	r.must(EINVAL, "sock_accept", client, 0, atResult)
}

func TestWhatStreamsAnswer(t *testing.T) { everywhere(t, testWhatStreamsAnswer) }

func testWhatStreamsAnswer(t *testing.T, via *door) {
	const read, write = 1, 2
	for _, c := range []struct {
		name string
		do   func(r *rawGuest, client, server uint64)
		// of a read and a write of the client, non-blocking
		read, write Errno
		got         string
	}{
		{"nothing there", func(*rawGuest, uint64, uint64) {}, EAGAIN, OK, ""},
		{"peer closed", func(r *rawGuest, _, s uint64) { r.must(OK, "fd_close", s) }, OK, EPIPE, ""},
		{"peer closed after writing", func(r *rawGuest, _, s uint64) {
			r.write(s, "bye")
			r.must(OK, "fd_close", s)
		}, OK, EPIPE, "bye"},
		{"peer ended writing", func(r *rawGuest, _, s uint64) { r.must(OK, "sock_shutdown", s, write) }, OK, OK, ""},
		{"peer ended reading", func(r *rawGuest, _, s uint64) { r.must(OK, "sock_shutdown", s, read) }, EAGAIN, EPIPE, ""},
		{"ended writing", func(r *rawGuest, c, _ uint64) { r.must(OK, "sock_shutdown", c, write) }, EAGAIN, EPIPE, ""},
		{"ended reading", func(r *rawGuest, c, _ uint64) { r.must(OK, "sock_shutdown", c, read) }, OK, OK, ""},
		{"ended both", func(r *rawGuest, c, _ uint64) { r.must(OK, "sock_shutdown", c, read|write) }, OK, EPIPE, ""},
		{"torn down", func(r *rawGuest, _, s uint64) { r.table.open[s].(*socket).conn.Abort() }, ECONNRESET, ECONNRESET, ""},
		{"no direction", func(r *rawGuest, c, _ uint64) { r.must(EINVAL, "sock_shutdown", c, 0) }, EAGAIN, OK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRaw(t, via, Config{Network: newLoop(t)})
			client, server := r.pair()
			r.nonblocking(client)
			c.do(r, client, server)
			got, errno := r.read(client, 10)
			if errno != c.read || got != c.got {
				t.Errorf("read %q, errno %d, not %d", got, errno, c.read)
			}
			if errno := r.write(client, "x"); errno != c.write {
				t.Errorf("write: errno %d, not %d", errno, c.write)
			}
		})
	}
}

// TestFullStream: a non-blocking write is cut off, then refused, and goes on
// once the peer has read.
func TestFullStream(t *testing.T) { everywhere(t, testFullStream) }

func testFullStream(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	client, server := r.pair()
	r.nonblocking(client)
	iovs, n := r.vector(0, memconn.MaxBuffer/2+1)
	sent := uint64(0)
	for range 2 {
		r.must(OK, "fd_write", client, iovs, n, atResult)
		sent += r.u32(atResult)
	}
	if sent != memconn.MaxBuffer {
		t.Errorf("%d bytes fitted", sent)
	}
	r.must(EAGAIN, "fd_write", client, iovs, n, atResult)
	if _, errno := r.read(server, 10); errno != OK {
		t.Fatal(errno)
	}
	if errno := r.write(client, strings.Repeat("x", 20)); errno != OK || r.u32(atResult) != 10 {
		t.Errorf("errno %d, %d bytes", errno, r.u32(atResult))
	}
}

func TestConnect(t *testing.T) { everywhere(t, testConnect) }

func testConnect(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	fd := r.socket(socketStream)
	r.must(ENOTCONN, "sock_shutdown", fd, 1)
	r.must(ENOTCONN, "sock_getpeeraddr", fd, r.address(loopHost, true), atResult)
	r.must(ECONNREFUSED, "sock_connect", fd, r.address(loopHost, true), 1)
	r.must(EINVAL, "sock_connect", fd, r.address(loopHost, true), 1<<16)
	if errno := r.write(fd, "x"); errno != ENOTCONN {
		t.Errorf("errno %d", errno)
	}
	r.nonblocking(fd)
	to := r.address(loopHost, true)
	if errno := r.call("sock_connect", fd, to, 1); errno == EINPROGRESS {
		for !r.table.open[fd].(*socket).ready().hangup {
			r.park(forever)
		}
		r.must(OK, "sock_getsockopt", fd, levelSocket, optError, atResult, 4)
		if Errno(r.u32(atResult)) != ECONNREFUSED {
			t.Errorf("SO_ERROR is %d", r.u32(atResult))
		}
	} else if errno != ECONNREFUSED {
		t.Errorf("errno %d", errno)
	}
	r.must(OK, "sock_getsockopt", fd, levelSocket, optError, atResult, 4)
	if r.u32(atResult) != 0 {
		t.Error("SO_ERROR is told twice")
	}
	r.must(EINPROGRESS, "sock_connect", fd, to, blackHole)
	r.must(EALREADY, "sock_connect", fd, to, blackHole)
	if errno := r.write(fd, "x"); errno != EAGAIN {
		t.Errorf("errno %d", errno)
	}
	r.must(OK, "fd_close", fd) // calls the dial off; else the test would not end
}

func TestBadAddresses(t *testing.T) { everywhere(t, testBadAddresses) }

func testBadAddresses(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	fd := r.socket(socketStream)
	end := uint64(r.m.Size())
	r.must(EFAULT, "sock_connect", fd, end-4, 80)
	for _, c := range []struct {
		at, size uint32
		want     Errno
	}{
		{uint32(end) - 1, 4, EFAULT}, {1, 1<<32 - 1, EFAULT}, {atData, 0, EINVAL}, {atData, 5, EINVAL},
		{atData, wideAddress, EAFNOSUPPORT}, // family 0
	} {
		r.m.WriteUint32Le(atAddress, c.at)
		r.m.WriteUint32Le(atAddress+4, c.size)
		r.must(c.want, "sock_connect", fd, atAddress, 80)
	}
	r.must(EAFNOSUPPORT, "sock_open", 3, socketStream, atResult)
	r.must(EPROTONOSUPPORT, "sock_open", familyInet4, 3, atResult)
}

func TestDatagrams(t *testing.T) { everywhere(t, testDatagrams) }

func testDatagrams(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	a, b := r.socket(socketDatagram), r.socket(socketDatagram)
	r.must(OK, "sock_bind", a, r.address(loopHost, true), 5000)
	r.must(EINVAL, "sock_bind", a, r.address(loopHost, true), 5001)
	r.must(OK, "sock_bind", b, r.address(loopHost, true), 5001)
	send := func(fd uint64, text string, port uint64) Errno {
		r.m.WriteString(atData, text)
		iovs, n := r.vector(atData, uint64(len(text)))
		return r.call("sock_send_to", fd, iovs, n, r.address(loopHost, true), port, 0, atResult)
	}
	for _, text := range []string{"one", "", "three"} {
		if errno := send(a, text, 5001); errno != OK {
			t.Fatal(errno)
		}
	}
	iovs, n := r.vector(atData, 2)
	r.must(OK, "sock_recv", b, iovs, n, 1, atResult, atExtra) // peek
	r.must(OK, "sock_recv_from", b, iovs, n, r.address(loopHost, true), 0, atExtra, atResult, atExtra+8)
	if got := r.text(atData, r.u32(atResult)); got != "on" || r.u32(atExtra) != 5000 {
		t.Errorf("%q from port %d", got, r.u32(atExtra)) // the rest is lost
	}
	for _, want := range []string{"", "three"} {
		if got, errno := r.read(b, 100); got != want || errno != OK {
			t.Errorf("%q, not %q, errno %d", got, want, errno)
		}
	}
	r.nonblocking(b)
	if _, errno := r.read(b, 100); errno != EAGAIN {
		t.Errorf("errno %d", errno)
	}
	if errno := r.write(b, "x"); errno != EDESTADDRREQ {
		t.Errorf("errno %d", errno)
	}
	if errno := send(a, "x", 1); errno != ECONNREFUSED {
		t.Errorf("errno %d", errno)
	}
	r.must(OK, "sock_connect", b, r.address(loopHost, true), 5002) // hears nobody else
	send(a, "x", 5001)
	iovs, n = r.vector(atData, 2)
	if errno := r.first("sock_recv_from", b, iovs, n, r.address(loopHost, false), 1, atResult, atExtra); errno != EAGAIN {
		t.Errorf("errno %d", errno)
	}
}

// TestIPv6: addresses of 16 bytes go both ways, in either version's form.
func TestIPv6(t *testing.T) { everywhere(t, testIPv6) }

func testIPv6(t *testing.T, via *door) {
	net := newLoop(t)
	r := newRaw(t, via, Config{Network: net})
	r.listen(8080)
	far := netip.MustParseAddr("2001:db8::7")
	for _, c := range []struct {
		text string
		wide bool
		want string
	}{
		{"2001:db8::7", true, "[2001:db8::7]:8080"}, {"2001:db8::7", false, "[2001:db8::7]:8080"},
		{"::1", true, "[::1]:8080"}, {"::ffff:192.0.2.1", true, "192.0.2.1:8080"},
	} {
		r.must(OK, "sock_open", familyInet6, socketStream, atResult)
		fd := r.u32(atResult)
		r.must(OK, "sock_connect", fd, r.address(netip.MustParseAddr(c.text), c.wide), 8080)
		if net.dialed.String() != c.want {
			t.Errorf("%+v leads to %v", c, net.dialed)
		}
	}
	r.must(OK, "sock_open", familyInet6, socketDatagram, atResult)
	fd := r.u32(atResult)
	r.must(OK, "sock_bind", fd, r.address(netip.IPv6Unspecified(), true), 5353)
	r.must(OK, "sock_connect", fd, r.address(far, true), 53)
	r.must(OK, "sock_getpeeraddr", fd, r.address(loopHost, true), atResult)
	if got := r.text(atAddress+8, 18); got != "\x02\x00"+string(far.AsSlice()) || r.u32(atResult) != 53 {
		t.Errorf("peer %x, port %d", got, r.u32(atResult))
	}
	net.packets[5353].Deliver([]byte("six"), netip.AddrPortFrom(far, 53))
	iovs, n := r.vector(atData, 9)
	r.must(OK, "sock_recv_from", fd, iovs, n, r.address(loopHost, true), 1, atExtra, atResult, atExtra+8)
	if got := r.text(atAddress+8, 18); got != "\x02\x00"+string(far.AsSlice()) || r.u32(atExtra) != 53 || r.u32(atResult) != 3 {
		t.Errorf("from %x, port %d", got, r.u32(atExtra))
	}
	r.must(EINVAL, "sock_recv_from", fd, iovs, n, r.address(loopHost, false), 0, atExtra, atResult, atExtra+8) // no room for it
}

// TestInterruptedCalls: whatever a guest waits for, it can be ended.
func TestInterruptedCalls(t *testing.T) { everywhere(t, testInterruptedCalls) }

func testInterruptedCalls(t *testing.T, via *door) {
	for name, call := range map[string]func(r *rawGuest){
		"accept": func(r *rawGuest) { r.call("sock_accept", r.listen(80), 0, atResult) },
		"connect": func(r *rawGuest) {
			r.call("sock_connect", r.socket(socketStream), r.address(loopHost, true), blackHole)
		},
		"read": func(r *rawGuest) {
			client, _ := r.pair()
			_, _ = r.read(client, 1)
		},
		"write": func(r *rawGuest) {
			client, _ := r.pair()
			for {
				iovs, n := r.vector(0, memconn.MaxBuffer)
				r.call("fd_write", client, iovs, n, atResult)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRaw(t, via, Config{Network: newLoop(t)})
			ended := make(chan any)
			go func() {
				defer func() { ended <- recover() }()
				call(r)
			}()
			r.Interrupt(137)
			if <-ended == nil {
				t.Error("the call answered")
			}
		})
	}
}
