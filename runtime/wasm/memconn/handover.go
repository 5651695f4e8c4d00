package memconn

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Places bounds how many descriptors of the host are in use. Take reports
// whether there was one left.
type Places interface {
	Take() bool
	Give()
}

// TakesOver says that the owner of this end will call only the Try methods, and
// Watch before the first of them: then a connection of the kernel can be handed
// over to it. It comes before anybody else has the connection.
func (c *Conn) TakesOver() { c.direct = true }

// Watch says that the owner of this end waits with w and calls only the Try
// methods. It reports whether that is possible; if not, the connection is of no
// use to its owner.
func (c *Conn) Watch(w *Watcher) bool {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if c.watcher == w {
		return true
	}
	c.watcher = w
	return c.kernel == nil || w.add(c.kernel)
}

// Handover gives the peer of this end a connection of the kernel to read and
// write by itself, instead of bytes that somebody copies between the two. On
// success this end and kernel are used up, and ended, if it is not nil, is
// called once the connection is closed. Not every peer can take one, and not on
// every system: then nothing has happened, and Splice does it.
func (c *Conn) Handover(kernel net.Conn, ended func()) bool {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	guest := c.peer
	if !guest.direct || guest.kernel != nil || guest.closed || c.closed || c.pair.reset || c.in.refused || c.out.ended {
		return false
	}
	k := newKernelConn(kernel)
	if k == nil {
		return false
	}
	if !c.flush(k) || guest.watcher != nil && !guest.watcher.add(k) {
		k.close(false)
		return false
	}
	if c.in.ended {
		k.closeWrite()
	}
	c.closed = true
	guest.kernel, guest.ended = k, ended
	_ = kernel.Close() // k has a descriptor of its own
	guest.ring()
	return true
}

// flush sends what the peer has written before it was given a connection.
func (c *Conn) flush(k *kernelConn) bool {
	buf := make([]byte, min(c.in.n, firstBuffer))
	for c.in.n > 0 {
		n, err := k.write(buf[:c.in.peek(buf)])
		c.in.take(buf[:n])
		if err != nil {
			return false
		}
	}
	return true
}

// closeKernel ends the connection of the kernel, if this end has one, and
// returns what to call without locks. pair.mu is held.
func (c *Conn) closeKernel() func() {
	if c.kernel == nil {
		return nil
	}
	if c.watcher != nil {
		c.watcher.remove(c.kernel)
	}
	c.kernel.close(c.pair.reset)
	c.kernel = nil
	ended := c.ended
	c.ended = nil
	return ended
}

// readKernel reads what the kernel has, after what came before the handover.
func (c *Conn) readKernel(b []byte, peek bool) (int, error) {
	n, err := c.kernel.read(b, peek)
	return n, c.note(err)
}

// note keeps what the kernel tells only once.
func (c *Conn) note(err error) error {
	switch err {
	case nil, ErrWouldBlock, ErrBrokenPipe:
	case io.EOF:
		c.in.ended = true
	case ErrReset:
		c.pair.reset = true
	}
	return err
}

// kernelError names an error of the kernel as this package does. Whatever ends
// a connection that has been established is a reset to who uses it.
func kernelError(call string, errno syscall.Errno) error {
	switch errno {
	case syscall.EAGAIN:
		return ErrWouldBlock
	case syscall.EPIPE:
		return ErrBrokenPipe
	case syscall.EFAULT, syscall.EBADF, syscall.EINVAL: // of this package's making
		return os.NewSyscallError(call, errno)
	}
	return ErrReset
}
