package wasi

import (
	"crypto/rand"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

func argsGet(g *Guest, m memory, p []uint64) Errno { return m.strings(g.args, p[0], p[1]) }

func argsSizes(g *Guest, m memory, p []uint64) Errno {
	if errno := m.put32(p[0], uint64(len(g.args))); errno != OK {
		return errno
	}
	return m.put32(p[1], stringsSize(g.args))
}

func environGet(g *Guest, m memory, p []uint64) Errno { return m.strings(g.env, p[0], p[1]) }

func environSizes(g *Guest, m memory, p []uint64) Errno {
	if errno := m.put32(p[0], uint64(len(g.env))); errno != OK {
		return errno
	}
	return m.put32(p[1], stringsSize(g.env))
}

const (
	clockRealtime  = 0
	clockMonotonic = 1
)

func clockRes(_ *Guest, m memory, p []uint64) Errno {
	switch uint32(p[0]) {
	case clockRealtime:
		return m.put64(p[1], uint64(time.Microsecond))
	case clockMonotonic:
		return m.put64(p[1], 1)
	}
	return EINVAL
}

func clockTime(g *Guest, m memory, p []uint64) Errno {
	switch uint32(p[0]) {
	case clockRealtime:
		return m.put64(p[2], uint64(time.Now().UnixNano()))
	case clockMonotonic:
		return m.put64(p[2], g.monotonic())
	}
	return EINVAL
}

// monotonic counts from the guest's start, so that it does not tell how long
// the host has been up. It never is 0, which some programs take for "unset".
func (g *Guest) monotonic() uint64 { return uint64(time.Since(g.started)) + 1 }

func randomGet(g *Guest, m memory, p []uint64) Errno {
	b, ok := m.bytes(p[0], p[1])
	if !ok {
		return EFAULT
	}
	const part = 1 << 20 // some milliseconds, between which the guest can be ended
	for len(b) > 0 {
		n := min(len(b), part)
		_, _ = rand.Read(b[:n]) // never fails: it ends the process instead
		b = b[n:]
		g.checkpoint()
	}
	return OK
}

func schedYield(*Guest, memory, []uint64) Errno {
	runtime.Gosched()
	return OK
}

func procExit(_ *Guest, _ memory, p []uint64) Errno { panic(sys.NewExitError(uint32(p[0]))) }

// procRaise has the default effect of every signal of the specification that
// ends a process; the few that are ignored by default do nothing.
func procRaise(_ *Guest, _ memory, p []uint64) Errno {
	const none, chld, cont, urg, winch = 0, 16, 17, 22, 27
	switch n := uint32(p[0]); {
	case n > 30:
		return EINVAL
	case n == none, n == chld, n == cont, n == urg, n == winch:
		return OK
	default:
		panic(sys.NewExitError(128 + n))
	}
}
