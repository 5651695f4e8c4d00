package wasi

import (
	"encoding/binary"
	"math"
	"time"
)

// Layout of subscriptions and events, in bytes.
const (
	subscriptionSize = 48
	eventSize        = 32
	maxSubscriptions = 1 << 16

	eventClock = 0
	eventRead  = 1
	eventWrite = 2

	clockAbsolute = 1
	eventHangup   = 1
)

// pollOneoff waits until at least one of its subscriptions has something to
// tell: (in, out, count, *events).
func pollOneoff(g *Guest, m memory, p []uint64) Errno {
	count := uint64(uint32(p[2]))
	if count == 0 || count > maxSubscriptions {
		return EINVAL
	}
	in, ok := m.bytes(p[0], count*subscriptionSize)
	if !ok {
		return EFAULT
	}
	out, ok := m.bytes(p[1], count*eventSize)
	if !ok {
		return EFAULT
	}
	start := time.Now()
	for {
		elapsed := time.Since(start)
		// Asked each time: the realtime clock may have been set meanwhile.
		wait, errno := g.earliest(in, elapsed)
		if errno != OK {
			return errno
		}
		g.watcher.Poll()
		if n := g.collect(in, out, elapsed); n > 0 {
			return m.put32(p[3], uint64(n))
		}
		g.park(wait)
	}
}

// earliest returns how long to wait at most when elapsed has passed already.
func (g *Guest) earliest(in []byte, elapsed time.Duration) (time.Duration, Errno) {
	limit := forever
	for ; len(in) > 0; in = in[subscriptionSize:] {
		switch in[8] {
		case eventClock:
			wait, errno := g.clockWait(in, elapsed)
			if errno == OK {
				limit = min(limit, max(0, wait))
			}
		case eventRead, eventWrite:
		default:
			return 0, EINVAL
		}
	}
	return limit, OK
}

// clockWait returns how long a clock subscription has still to wait when
// elapsed has passed since the call; zero or less: it is due.
func (g *Guest) clockWait(sub []byte, elapsed time.Duration) (time.Duration, Errno) {
	id := binary.LittleEndian.Uint32(sub[16:])
	at := binary.LittleEndian.Uint64(sub[24:])
	if id != clockRealtime && id != clockMonotonic {
		return 0, EINVAL
	}
	if binary.LittleEndian.Uint16(sub[40:])&clockAbsolute == 0 {
		if at > math.MaxInt64 {
			return forever, OK
		}
		return time.Duration(at) - elapsed, OK
	}
	now := g.monotonic()
	if id == clockRealtime {
		now = uint64(time.Now().UnixNano())
	}
	switch {
	case at <= now:
		return 0, OK
	case at-now > math.MaxInt64:
		return forever, OK
	}
	return time.Duration(at - now), OK
}

// collect writes an event for every subscription that has one and returns
// their number.
func (g *Guest) collect(in, out []byte, elapsed time.Duration) (n int) {
	for ; len(in) > 0; in = in[subscriptionSize:] {
		var ready readiness
		switch in[8] {
		case eventClock:
			wait, errno := g.clockWait(in, elapsed)
			if errno == OK && wait > 0 {
				continue
			}
			ready.errno = errno
		default:
			ready = g.readiness(binary.LittleEndian.Uint32(in[16:]))
			there := ready.read && in[8] == eventRead || ready.write && in[8] == eventWrite
			if !there && !ready.hangup && ready.errno == OK {
				continue
			}
		}
		event := out[n*eventSize : (n+1)*eventSize]
		clear(event)
		copy(event, in[:8])
		binary.LittleEndian.PutUint16(event[8:], uint16(ready.errno))
		event[10] = in[8]
		if in[8] == eventRead {
			binary.LittleEndian.PutUint64(event[16:], uint64(ready.unread))
		}
		if ready.hangup {
			binary.LittleEndian.PutUint16(event[24:], eventHangup)
		}
		n++
	}
	return n
}

// readiness of a descriptor; files are always ready.
func (g *Guest) readiness(fd uint32) readiness {
	d, errno := g.table.get(uint64(fd))
	if errno != OK {
		return readiness{errno: errno}
	}
	if errno := g.table.allows(uint64(fd), rightPoll); errno != OK {
		return readiness{errno: errno}
	}
	if s, ok := d.(stream); ok {
		return s.ready()
	}
	return readiness{read: true, write: true}
}
