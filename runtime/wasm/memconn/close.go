package memconn

import (
	"sync"
	"time"
)

// deadline is one of the four deadlines of a connection; guarded by pair.mu.
type deadline struct {
	passed bool
	set    uint64 // so that a timer of an earlier setting changes nothing
	timer  *time.Timer
}

// Close ends this end: the other one reads what was written and then the end
// of file, and can write no more.
func (c *Conn) Close() error {
	c.pair.mu.Lock()
	if c.closed {
		c.pair.mu.Unlock()
		return nil
	}
	c.closed = true
	c.out.ended, c.in.refused = true, true
	c.in.drop()
	c.in.readBy.stop()
	c.out.writeBy.stop()
	c.wakeAll()
	done := [3]func(){c.onClose, c.peer.peerClosed, c.closeKernel()}
	c.pair.mu.Unlock()
	for _, f := range done {
		if f != nil {
			f()
		}
	}
	return nil
}

// CloseWrite ends the outgoing direction only.
func (c *Conn) CloseWrite() error {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if c.kernel != nil && !c.out.ended {
		c.kernel.closeWrite()
	}
	c.out.ended = true
	c.wakeAll()
	return nil
}

// CloseRead ends the incoming direction only: this end reads the end of file
// at once, the other end's writes fail.
func (c *Conn) CloseRead() error {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.in.refused = true
	c.in.drop()
	c.wakeAll()
	return nil
}

// Abort tears both directions down: both ends fail with ErrReset.
func (c *Conn) Abort() {
	c.pair.mu.Lock()
	c.pair.reset = true
	c.in.drop()
	c.out.drop()
	c.wakeAll()
	c.pair.mu.Unlock()
	_ = c.Close()
}

// RetireIdle closes the incoming direction if ok(state) holds, in one step: a
// byte of the other end either came before, so that ok saw it, or its write
// fails. It reports whether it did.
func (c *Conn) RetireIdle(ok func(State) bool) bool {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if !ok(c.state()) {
		return false
	}
	c.in.refused = true
	c.wakeAll()
	return true
}

// OnClose sets what is called once this end is closed. It is called without locks.
func (c *Conn) OnClose(f func()) {
	c.pair.mu.Lock()
	closed := c.closed
	c.onClose = f
	c.pair.mu.Unlock()
	if closed {
		f()
	}
}

// onPeerClosed sets what is called once the other end is closed.
func (c *Conn) onPeerClosed(f func()) {
	c.pair.mu.Lock()
	closed := c.peer.closed
	c.peerClosed = f
	c.pair.mu.Unlock()
	if closed {
		f()
	}
}

func (c *Conn) wakeAll() {
	for _, h := range [2]*half{c.in, c.out} {
		h.readers.Broadcast()
		h.writers.Broadcast()
	}
	c.ring()
	c.peer.ring()
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.setDeadline(&c.in.readBy, &c.in.readers, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.setDeadline(&c.out.writeBy, &c.out.writers, t)
	return nil
}

func (c *Conn) setDeadline(d *deadline, wake *sync.Cond, t time.Time) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	d.stop()
	if t.IsZero() || c.closed {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		wake.Broadcast()
		return
	}
	set := d.set
	d.timer = time.AfterFunc(wait, func() {
		c.pair.mu.Lock()
		defer c.pair.mu.Unlock()
		if d.set == set {
			d.passed = true
			wake.Broadcast()
		}
	})
}

func (d *deadline) stop() {
	d.set++
	d.passed = false
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
