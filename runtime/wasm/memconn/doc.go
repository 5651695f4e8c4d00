// Package memconn is a stream connection that never leaves memory: two ends of
// a buffered duplex pipe with half-close, deadlines and addresses.
//
// Every connection of a guest is one end of such a pipe, whether the other end
// is a proxy of this process, another guest, or a pump to a kernel socket. So
// the guest's side has one kind of readiness, exact in both directions, on
// every operating system, and a parked guest needs neither a thread nor a
// system call.
//
// A pump costs two switches between goroutines and two copies for each message.
// Where the system has epoll, an end whose owner is prepared for it (TakesOver,
// Watch) is given the kernel's connection itself (Handover) and goes on to look
// the same from its owner's side.
package memconn

import (
	"errors"
	"net"
)

// MaxBuffer is how many bytes one direction of a connection holds before its
// writer has to wait, as a TCP socket's buffers would.
const MaxBuffer = 64 << 10

// Errors of connections and listeners.
var (
	// ErrWouldBlock says that a Try call could do nothing now.
	ErrWouldBlock = errors.New("operation would block")
	// ErrReset says that the other end was torn down without an orderly close.
	ErrReset = errors.New("connection reset by peer")
	// ErrBrokenPipe says that the other end reads no more.
	ErrBrokenPipe = errors.New("broken pipe")
	// ErrRefused says that a listener takes no connections now.
	ErrRefused = errors.New("connection refused")
)

// Addr is the address of an end that has no real one.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "mem" }

func (a Addr) String() string { return string(a) }

var _ net.Addr = Addr("")
