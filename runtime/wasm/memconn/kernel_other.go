//go:build !linux

package memconn

import (
	"net"
	"time"
)

// kernelConn does not exist here: connections of the kernel are spliced.
type kernelConn struct{}

func newKernelConn(net.Conn) *kernelConn { return nil }

func (*kernelConn) read([]byte, bool) (int, error) { return 0, ErrReset }
func (*kernelConn) write([]byte) (int, error)      { return 0, ErrReset }
func (*kernelConn) unread() (int, error)           { return 0, ErrReset }
func (*kernelConn) unsent() int                    { return 0 }
func (*kernelConn) hasRoom() bool                  { return false }
func (*kernelConn) closeWrite()                    {}
func (*kernelConn) close(bool)                     {}

// Watcher has nothing to watch here.
type Watcher struct{}

// NewWatcher makes a Watcher.
func NewWatcher(Places) *Watcher { return &Watcher{} }

// Active reports whether there are connections of the kernel to wait for.
func (*Watcher) Active() bool { return false }

// Poll takes note of news and returns their number.
func (*Watcher) Poll() int { return 0 }

// Wait is never called, for nothing is active.
func (*Watcher) Wait(time.Time, <-chan struct{}, <-chan struct{}) {}

// Wake ends a Wait that is under way.
func (*Watcher) Wake() {}

// Close ends the Watcher.
func (*Watcher) Close() {}

func (*Watcher) add(*kernelConn) bool { return false }
func (*Watcher) remove(*kernelConn)   {}
