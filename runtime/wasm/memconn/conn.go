package memconn

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// half is one direction: bytes on their way from a writer to a reader. All its
// fields are guarded by the pair's mutex.
type half struct {
	ring
	readers, writers sync.Cond
	stuck            bool // the writer was told that there is no room
	ended            bool // the writer has closed: end of file after the last byte
	refused          bool // the reader has closed: writes fail
	readBy, writeBy  deadline
	taken, put       uint64 // bytes read and written so far
}

// pair is what the two ends share.
type pair struct {
	mu    sync.Mutex
	reset bool
}

// Conn is one end of a connection. Its methods are safe for concurrent use.
type Conn struct {
	pair          *pair
	in, out       *half
	local, remote net.Addr
	peer          *Conn
	notify        func() // the guest's bell; guarded by pair.mu
	onClose       func() // this end was closed
	peerClosed    func() // the other end was closed
	closed        bool
	changed       time.Time // last read or write of this end
	// A connection of the kernel that this end uses by itself; see Handover.
	direct  bool // it may be given one
	watcher *Watcher
	kernel  *kernelConn
	ended   func() // once kernel is closed
	lastPut bool   // the last of them was a write
}

// Pipe returns both ends of a new connection. a's local address is addrA,
// which b sees as its remote one, and the other way round. Its buffers count in
// budget, which may be nil.
func Pipe(addrA, addrB net.Addr, budget *Budget) (a, b *Conn) {
	p := &pair{}
	ab, ba := newHalf(p, budget), newHalf(p, budget)
	now := time.Now()
	a = &Conn{pair: p, in: ba, out: ab, local: addrA, remote: addrB, changed: now}
	b = &Conn{pair: p, in: ab, out: ba, local: addrB, remote: addrA, changed: now}
	a.peer, b.peer = b, a
	return a, b
}

func newHalf(p *pair, budget *Budget) *half {
	h := &half{ring: ring{budget: budget}}
	h.readers.L, h.writers.L = &p.mu, &p.mu
	return h
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	for {
		if c.in.readBy.passed && !c.closed {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := c.read(b)
		if err != ErrWouldBlock {
			return n, err
		}
		c.in.readers.Wait()
	}
}

// TryRead reads what is there. It answers ErrWouldBlock when nothing is, and
// io.EOF at the end.
func (c *Conn) TryRead(b []byte) (int, error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	return c.read(b)
}

// TryPeek is TryRead that leaves the bytes where they are.
func (c *Conn) TryPeek(b []byte) (int, error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if err := c.readError(b); err != nil || len(b) == 0 {
		return 0, err
	}
	if c.in.n == 0 {
		return c.readKernel(b, true)
	}
	return c.in.peek(b), nil
}

// readError says why nothing can be read now; nil when something can, or the
// kernel has to be asked.
func (c *Conn) readError(b []byte) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.pair.reset:
		return ErrReset
	case len(b) == 0 || c.in.n > 0:
		return nil
	case c.in.ended || c.in.refused:
		return io.EOF
	case c.kernel != nil:
		return nil
	}
	return ErrWouldBlock
}

func (c *Conn) read(b []byte) (int, error) {
	if err := c.readError(b); err != nil || len(b) == 0 {
		return 0, err
	}
	n := 0
	if c.in.n == 0 {
		var err error
		if n, err = c.readKernel(b, false); err != nil {
			return 0, err
		}
	} else {
		n = c.in.take(b)
	}
	c.in.taken += uint64(n)
	c.changed, c.lastPut = time.Now(), false
	c.in.writers.Broadcast()
	// A writer that polls waits for room only when there was none.
	if c.in.stuck {
		c.in.stuck = false
		c.peer.ring()
	}
	return n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	done := 0
	for {
		if c.out.writeBy.passed && !c.closed {
			return done, os.ErrDeadlineExceeded
		}
		n, err := c.write(b[done:])
		done += n
		if err != nil && err != ErrWouldBlock {
			return done, err
		}
		if done == len(b) {
			return done, nil
		}
		if err == ErrWouldBlock {
			c.out.writers.Wait()
		}
	}
}

// TryWrite writes as much as there is room for, ErrWouldBlock when there is none.
func (c *Conn) TryWrite(b []byte) (int, error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	return c.write(b)
}

func (c *Conn) write(b []byte) (int, error) {
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.pair.reset:
		return 0, ErrReset
	case c.out.ended || c.out.refused:
		return 0, ErrBrokenPipe
	case len(b) == 0:
		return 0, nil
	case c.kernel != nil:
		n, err := c.kernel.write(b)
		if err == nil {
			c.out.put += uint64(n)
			c.changed, c.lastPut = time.Now(), true
		}
		return n, c.note(err)
	}
	n := c.out.add(b)
	c.out.stuck = n < len(b)
	if n == 0 {
		return 0, ErrWouldBlock
	}
	c.out.put += uint64(n)
	c.changed, c.lastPut = time.Now(), true
	c.out.readers.Broadcast()
	c.peer.ring()
	return n, nil
}

// ring rings the bell of whoever polls this end; pair.mu is held.
func (c *Conn) ring() {
	if c.notify != nil {
		c.notify()
	}
}

// SetNotify sets a function that is called whenever the readiness of this end
// may have changed. It must not block nor call the connection.
func (c *Conn) SetNotify(f func()) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.notify = f
}
