package guest

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"
)

// Numbers of the WasmEdge socket extension, which are neither POSIX' nor Linux'.
const (
	familyInet4 int32 = 1
	familyInet6 int32 = 2

	kindDatagram int32 = 1
	kindStream   int32 = 2

	levelSocket int32 = 0
	optionType  int32 = 1
	optionError int32 = 2
)

//go:wasmimport wasi_snapshot_preview1 sock_open
//go:noescape
func sockOpen(family, kind int32, fd unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_bind
//go:noescape
func sockBind(fd int32, addr unsafe.Pointer, port uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_listen
func sockListen(fd, backlog int32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_connect
//go:noescape
func sockConnect(fd int32, addr unsafe.Pointer, port uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getsockopt
//go:noescape
func sockGetOption(fd, level, name int32, value unsafe.Pointer, size uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getlocaladdr
//go:noescape
func sockLocalAddr(fd int32, addr, port unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getpeeraddr
//go:noescape
func sockPeerAddr(fd int32, addr, port unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getaddrinfo
//go:noescape
func sockAddrInfo(node unsafe.Pointer, nodeLen uint32, service unsafe.Pointer, serviceLen uint32, hints, results unsafe.Pointer, most uint32, count unsafe.Pointer) uint32

func failure(errno uint32) error {
	if errno == 0 {
		return nil
	}
	return syscall.Errno(errno)
}

// open makes a socket that does not block.
func open(family, kind int32) (int32, error) {
	var fd int32
	if err := failure(sockOpen(family, kind, unsafe.Pointer(&fd))); err != nil {
		return 0, err
	}
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		_ = syscall.Close(int(fd))
		return 0, err
	}
	return fd, nil
}

// view is a {buffer, length} of the extension.
type view struct{ buffer, length uint32 }

func viewOf(b []byte) view {
	return view{uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint32(len(b))}
}

// withAddr calls f with the address of a bare IP address.
func withAddr(a netip.Addr, f func(unsafe.Pointer) uint32) error {
	raw := a.AsSlice()
	v := viewOf(raw)
	err := failure(f(unsafe.Pointer(&v)))
	runtime.KeepAlive(raw)
	return err
}

func bind(fd int32, at netip.AddrPort) error {
	return withAddr(at.Addr(), func(addr unsafe.Pointer) uint32 { return sockBind(fd, addr, uint32(at.Port())) })
}

func listen(fd, backlog int32) error { return failure(sockListen(fd, backlog)) }

func connect(fd int32, to netip.AddrPort) error {
	return withAddr(to.Addr(), func(addr unsafe.Pointer) uint32 { return sockConnect(fd, addr, uint32(to.Port())) })
}

// addrSize is that of an address buffer with its family in the first two bytes.
const addrSize = 128

func readAddr(f func(addr, port unsafe.Pointer) uint32) (netip.AddrPort, error) {
	raw := make([]byte, addrSize)
	v, port := viewOf(raw), uint32(0)
	err := failure(f(unsafe.Pointer(&v), unsafe.Pointer(&port)))
	runtime.KeepAlive(raw)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip := netip.AddrFrom4([4]byte(raw[2:6]))
	if int32(binary.LittleEndian.Uint16(raw)) == familyInet6 {
		ip = netip.AddrFrom16([16]byte(raw[2:18]))
	}
	return netip.AddrPortFrom(ip, uint16(port)), nil
}

func localAddr(fd int32) (netip.AddrPort, error) {
	return readAddr(func(addr, port unsafe.Pointer) uint32 { return sockLocalAddr(fd, addr, port) })
}

func peerAddr(fd int32) (netip.AddrPort, error) {
	return readAddr(func(addr, port unsafe.Pointer) uint32 { return sockPeerAddr(fd, addr, port) })
}

func option(fd, name int32) (value int32, err error) {
	err = failure(sockGetOption(fd, levelSocket, name, unsafe.Pointer(&value), 4))
	return value, err
}

func isStream(fd int32) bool {
	kind, err := option(fd, optionType)
	return err == nil && kind == kindStream
}

// socketError is why a connect has failed; asking resets it.
func socketError(fd int32) error {
	errno, err := option(fd, optionError)
	if err == nil {
		err = failure(uint32(errno))
	}
	return err
}

// addrInfo and sockAddr are the extension's, with addresses as numbers.
type addrInfo struct {
	flags         uint16
	family, kind  uint8
	protocol      uint32
	size          uint32
	addr          uint32 // of a sockAddr
	name, nameLen uint32
	next          uint32 // of an addrInfo
}

type sockAddr struct {
	family uint8
	length uint32
	data   uint32 // of a port and an address
}

const (
	mostAddresses = 16
	dataSize      = 26 // of a sockAddr's data, as large as its clients make it
)

// lookup finds the addresses of a host. The list of results is the caller's.
func lookup(host string, kind int32) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if host == "" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	infos, addrs, data := make([]addrInfo, mostAddresses), make([]sockAddr, mostAddresses), make([]byte, mostAddresses*dataSize)
	at := func(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }
	for i := range infos {
		addrs[i] = sockAddr{length: dataSize, data: at(unsafe.Pointer(&data[i*dataSize]))}
		infos[i].addr = at(unsafe.Pointer(&addrs[i]))
		if i > 0 {
			infos[i-1].next = at(unsafe.Pointer(&infos[i]))
		}
	}
	hints := &addrInfo{kind: uint8(kind)}
	head, count := at(unsafe.Pointer(&infos[0])), uint32(0)
	node, service := []byte(host), []byte("0")
	err := failure(sockAddrInfo(unsafe.Pointer(&node[0]), uint32(len(node)), unsafe.Pointer(&service[0]), 1,
		unsafe.Pointer(hints), unsafe.Pointer(&head), mostAddresses, unsafe.Pointer(&count)))
	runtime.KeepAlive(infos)
	if err != nil {
		return nil, err
	}
	found := make([]netip.Addr, 0, count)
	for i := range min(int(count), mostAddresses) {
		raw := data[i*dataSize+2:]
		if int32(addrs[i].family) == familyInet6 {
			found = append(found, netip.AddrFrom16([16]byte(raw[:16])))
		} else {
			found = append(found, netip.AddrFrom4([4]byte(raw[:4])))
		}
	}
	return found, nil
}
