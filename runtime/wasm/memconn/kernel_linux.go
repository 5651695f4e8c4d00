package memconn

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelConn is a TCP connection that its user reads and writes by system calls
// that never wait. It has a descriptor of its own, which Go's poller does not
// know.
//
// readable and writable say what may be; that something is not so is certain.
// The Watcher sets them, from then on when the kernel has news, and they are
// cleared before the call that finds nothing: news that come between the two
// are not lost.
type kernelConn struct {
	fd                 int
	readable, writable atomic.Bool
}

// newKernelConn takes over a connection; nil: it is of another kind. The
// original is to be closed by the caller.
func newKernelConn(c net.Conn) *kernelConn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	if raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return nil
	}
	k := &kernelConn{fd: fd}
	k.readable.Store(true)
	k.writable.Store(true)
	return k
}

// The calls here are raw ones: on sockets that do not wait they take less time
// than it takes to tell Go's scheduler that a thread is in the kernel.

func (k *kernelConn) read(b []byte, peek bool) (int, error) {
	flags := unix.MSG_DONTWAIT
	if peek {
		flags |= unix.MSG_PEEK
	}
	k.readable.Store(false)
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(k.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != unix.EAGAIN {
			k.readable.Store(true) // there may be more
		}
		switch {
		case errno != 0:
			return 0, kernelError("recv", errno)
		case n == 0:
			return 0, io.EOF
		}
		return int(n), nil
	}
}

func (k *kernelConn) write(b []byte) (int, error) {
	k.writable.Store(false)
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(k.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != unix.EAGAIN {
			k.writable.Store(true) // there may be more room
		}
		if errno != 0 {
			return 0, kernelError("send", errno)
		}
		return int(n), nil
	}
}

// unread is how many bytes can be read now, and why nothing can be.
func (k *kernelConn) unread() (int, error) {
	if !k.readable.Load() {
		return 0, ErrWouldBlock
	}
	if n := k.count(unix.SIOCINQ); n > 0 {
		return n, nil
	}
	var b [1]byte
	return k.read(b[:], true)
}

// unsent is how many bytes the other side's kernel has not acknowledged.
func (k *kernelConn) unsent() int { return k.count(unix.SIOCOUTQ) }

func (k *kernelConn) count(request uintptr) int {
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(k.fd), request, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0
	}
	return int(n)
}

func (k *kernelConn) hasRoom() bool { return k.writable.Load() }

func (k *kernelConn) closeWrite() { _ = unix.Shutdown(k.fd, unix.SHUT_WR) }

func (k *kernelConn) close(reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(k.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(k.fd)
}

// Watcher tells a guest's goroutine which of its connections of the kernel have
// news. It is an epoll of the guest's own: a busy guest asks it with one call
// that does not wait, and who waits does so in Go's poller, which watches the
// epoll's descriptor. A Watcher without connections costs a few words.
//
// Poll and Wait belong to one goroutine; the others are safe for concurrent use.
type Watcher struct {
	places Places
	active atomic.Int32 // connections
	waits  atomic.Bool

	mu     sync.Mutex // guards what follows, but for the goroutine's own use
	closed bool
	file   *os.File // nil: there was no connection yet
	fd     int
	raw    syscall.RawConn
	conns  map[int32]*kernelConn
	events []unix.EpollEvent
	news   func(uintptr) bool
}

// NewWatcher makes a Watcher; its descriptor counts in places.
func NewWatcher(places Places) *Watcher { return &Watcher{places: places} }

// Active reports whether there are connections of the kernel to wait for.
func (w *Watcher) Active() bool { return w.active.Load() > 0 }

// eventsAtOnce is how many connections one call of the kernel tells of.
const eventsAtOnce = 64

func (w *Watcher) open() bool {
	if w.closed || w.file != nil {
		return !w.closed
	}
	if !w.places.Take() {
		return false
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		w.places.Give()
		return false
	}
	_ = unix.SetNonblock(fd, true) // for os.NewFile, which then asks Go's poller to watch it
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails if it is not watched
	}
	if err != nil {
		_ = file.Close()
		w.places.Give()
		return false
	}
	w.file, w.fd, w.raw = file, fd, raw
	w.conns, w.events = map[int32]*kernelConn{}, make([]unix.EpollEvent, eventsAtOnce)
	w.news = func(uintptr) bool { return w.Poll() > 0 }
	return true
}

func (w *Watcher) add(k *kernelConn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open() {
		return false
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(k.fd)}
	if unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, k.fd, &event) != nil {
		return false
	}
	w.conns[int32(k.fd)] = k
	w.active.Add(1)
	return true
}

func (w *Watcher) remove(k *kernelConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns[int32(k.fd)] != k {
		return
	}
	delete(w.conns, int32(k.fd))
	w.active.Add(-1)
	if !w.closed {
		_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, k.fd, nil)
	}
}

// Poll takes note of the news that there are and returns their number.
func (w *Watcher) Poll() (total int) {
	for w.Active() {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.fd), uintptr(unsafe.Pointer(&w.events[0])), eventsAtOnce, 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || n == 0 {
			return total
		}
		w.mu.Lock()
		for _, e := range w.events[:n] {
			k := w.conns[e.Fd]
			if k == nil {
				continue
			}
			if e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				k.readable.Store(true)
			}
			if e.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				k.writable.Store(true)
			}
		}
		w.mu.Unlock()
		if total += int(n); n < eventsAtOnce {
			return total
		}
	}
	return total
}

// Wait waits until a connection has news, Wake is called, one of the channels
// has something, or the time has come; the zero time never does. It may return
// without any of them.
func (w *Watcher) Wait(until time.Time, bell, cut <-chan struct{}) {
	w.waits.Store(true)
	defer w.waits.Store(false)
	_ = w.file.SetReadDeadline(until)
	// Who rings now calls Wake, and who did before is heard here.
	select {
	case <-bell:
	case <-cut:
	default:
		_ = w.raw.Read(w.news)
	}
}

// Wake ends a Wait that is under way.
func (w *Watcher) Wake() {
	if w.waits.CompareAndSwap(true, false) {
		_ = w.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close ends the Watcher. Nobody waits with it any more.
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil && !w.closed {
		_ = w.file.Close()
		w.places.Give()
	}
	w.closed = true
}
