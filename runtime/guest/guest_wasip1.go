package guest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Listen announces on a local address, as net.Listen: network is "tcp", "tcp4"
// or "tcp6". In a pod, the address' host means nothing: it is the pod's own. A
// port that the container declares has been listening since its start; every
// other is opened now, and ":0" chooses one.
func Listen(network, address string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if !strings.HasPrefix(network, "tcp") {
		return fail(net.UnknownNetworkError(network))
	}
	_, service, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return fail(err)
	}
	fd, ok := inherited(uint16(port))
	if !ok {
		if fd, err = listenOn(uint16(port)); err != nil {
			return fail(err)
		}
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close() // FileListener has a reference of its own
	l, err := net.FileListener(f)
	if err != nil {
		return fail(err)
	}
	local, err := localAddr(fd)
	if err != nil {
		return fail(err)
	}
	return &listener{l, net.TCPAddrFromAddrPort(local)}, nil
}

// inherited finds the listening descriptor of a declared port: there are
// LISTEN_FDS of them, from 3 on.
func inherited(port uint16) (int32, bool) {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	for fd := int32(3); fd < int32(3+n) && port != 0; fd++ {
		if at, err := localAddr(fd); err == nil && at.Port() == port && isStream(fd) {
			return fd, syscall.SetNonblock(int(fd), true) == nil
		}
	}
	return 0, false
}

func listenOn(port uint16) (int32, error) {
	fd, err := open(familyInet4, kindStream)
	if err != nil {
		return 0, err
	}
	err = bind(fd, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
	if err == nil {
		err = listen(fd, 128)
	}
	if err != nil {
		_ = syscall.Close(int(fd))
		return 0, err
	}
	return fd, nil
}

// listener gives connections their addresses, which package net does not know.
type listener struct {
	net.Listener
	addr net.Addr
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return named(tcp)
}

// conn is a stream with its addresses.
type conn struct {
	*net.TCPConn
	local, remote net.Addr
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func named(tcp *net.TCPConn) (net.Conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var local, remote netip.AddrPort
	err = raw.Control(func(fd uintptr) {
		local, _ = localAddr(int32(fd))
		remote, _ = peerAddr(int32(fd))
	})
	return &conn{tcp, net.TCPAddrFromAddrPort(local), net.TCPAddrFromAddrPort(remote)}, err
}

// packetConn is a connected datagram socket with its addresses.
type packetConn struct {
	net.Conn
	local, remote net.Addr
}

func (c *packetConn) LocalAddr() net.Addr  { return c.local }
func (c *packetConn) RemoteAddr() net.Addr { return c.remote }

// Dial connects to an address, as net.Dial: network is "tcp" or "udp", with 4 or
// 6 behind it or not.
func Dial(network, address string) (net.Conn, error) {
	return DialContext(context.Background(), network, address)
}

// DialContext is Dial with a context that bounds the connecting, not the
// connection. The addresses of a name are tried one after the other.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	kind := kindStream
	switch strings.TrimRight(network, "46") {
	case "tcp":
	case "udp":
		kind = kindDatagram
	default:
		return fail(net.UnknownNetworkError(network))
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := net.LookupPort(network, service)
	if err != nil {
		return fail(err)
	}
	ips, err := lookup(host, kind)
	if err != nil {
		return fail(&net.DNSError{Err: err.Error(), Name: host, IsNotFound: errors.Is(err, syscall.ENOENT)})
	}
	err = &net.AddrError{Err: "no suitable address", Addr: host}
	for _, ip := range ips {
		if strings.HasSuffix(network, "4") && !ip.Is4() || strings.HasSuffix(network, "6") && ip.Is4() {
			continue
		}
		var c net.Conn
		if c, err = dialOne(ctx, kind, netip.AddrPortFrom(ip, uint16(port))); err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return fail(ctx.Err())
		}
	}
	return fail(err)
}

func dialOne(ctx context.Context, kind int32, to netip.AddrPort) (net.Conn, error) {
	family := familyInet4
	if to.Addr().Is6() {
		family = familyInet6
	}
	fd, err := open(family, kind)
	if err != nil {
		return nil, err
	}
	// From here on the file owns the descriptor.
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := connect(fd, to); err != nil && err != syscall.EINPROGRESS {
		return nil, os.NewSyscallError("connect", err)
	}
	if kind == kindStream {
		if err := connected(ctx, f); err != nil {
			return nil, err
		}
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		return named(tcp)
	}
	local, _ := localAddr(fd)
	return &packetConn{c, net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(to)}, nil
}

// connected waits until a connect has come to its end.
func connected(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// Whoever waits for a descriptor is woken by a deadline that has passed.
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	var result error
	polled := false
	err = raw.Write(func(fd uintptr) bool {
		if _, err := peerAddr(int32(fd)); err == nil {
			return true
		}
		if polled { // ready, and not connected: the reason can be asked once
			result = socketError(int32(fd))
			return result != nil
		}
		polled = true
		return false
	})
	if !stop() {
		return ctx.Err()
	}
	if err == nil && result != nil {
		err = os.NewSyscallError("connect", result)
	}
	return err
}
