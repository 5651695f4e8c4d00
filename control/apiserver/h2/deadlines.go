package h2

import (
	"os"
	"time"

	"golang.org/x/net/http2"
)

// arm makes the clock go off at a time, or earlier. One timer serves all
// streams: most requests have the same minute, and end long before it is over,
// so that setting a deadline is mostly a comparison.
func (c *conn) arm(at time.Time) {
	switch {
	case c.ended || !c.rings.IsZero() && !at.Before(c.rings):
		return
	case c.clock == nil:
		c.clock = time.AfterFunc(time.Until(at), c.tick)
	default:
		c.clock.Reset(time.Until(at))
	}
	c.rings = at
}

// tick ends what is past its time, and winds the clock for what comes next.
func (c *conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rings = time.Time{}
	if c.ended {
		return
	}
	now := time.Now()
	for _, st := range c.streams {
		c.expire(st, now)
	}
	if len(c.streams) == 0 && c.server.Idle > 0 {
		if over := c.idleSince.Add(c.server.Idle); now.Before(over) {
			c.arm(over)
		} else {
			c.away()
		}
	}
	c.flushLater()
}

// expire applies the deadlines of a stream.
func (c *conn) expire(st *stream, now time.Time) {
	if at := st.readBy; !at.IsZero() {
		if now.Before(at) {
			c.arm(at)
		} else {
			st.readBy = time.Time{}
			st.body.fail(os.ErrDeadlineExceeded)
		}
	}
	if at := st.writeBy; !at.IsZero() {
		if now.Before(at) {
			c.arm(at)
		} else {
			st.writeBy = time.Time{}
			st.die(os.ErrDeadlineExceeded)
			c.putReset(st.id, http2.ErrCodeInternal)
		}
	}
}

// limit sets one of the deadlines of a stream. One that is over counts before
// it returns.
func (st *stream) limit(which *time.Time, at time.Time) error {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.dead != nil {
		return nil
	}
	if *which = at; at.IsZero() {
		return nil
	}
	if now := time.Now(); !now.Before(at) {
		c.expire(st, now)
		c.flushLater()
		return nil
	}
	c.arm(at)
	return nil
}
