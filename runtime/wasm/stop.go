package wasm

import (
	"context"
	"time"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// stopping is the orderly end of a container that is under way.
type stopping struct {
	deadline time.Time // guarded by container.mu
	sooner   chan struct{}
}

// Stop implements sandbox.Container. A second Stop can only bring the end nearer.
func (c *container) Stop(ctx context.Context, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	c.mu.Lock()
	switch {
	case c.stop == nil:
		s := &stopping{deadline: deadline, sooner: make(chan struct{}, 1)}
		c.stop = s
		c.sandbox.spawn(func() { c.drain(s, grace) })
	case deadline.Before(c.stop.deadline):
		c.stop.deadline = deadline
		select {
		case c.stop.sooner <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the guest now, with the given exit code. The first one stands.
func (c *container) kill(code int32) {
	c.forced.CompareAndSwap(0, code)
	c.mu.Lock()
	guest := c.guest
	c.mu.Unlock()
	if guest != nil {
		guest.Interrupt(uint32(c.forced.Load()))
	}
	c.meter.Kill()
}

// drain is the goroutine of a stop; it ends with the container.
//
//  1. nobody new gets in (who is told "refused" can try another pod);
//  2. connections that are idle are ended, busy ones may finish;
//  3. the guest's accept fails, so that it can end by itself;
//  4. at the deadline it is killed.
func (c *container) drain(s *stopping, grace time.Duration) {
	c.mu.Lock()
	ports, packets := append([]*port(nil), c.ports...), append([]*memconn.Packets(nil), c.packets...)
	c.mu.Unlock()
	for _, p := range ports {
		p.refuse()
	}
	d := newDrainage(ports, grace)
	if !d.canBeTold() && len(packets) == 0 {
		c.kill(exitTold)
		<-c.done
		return
	}
	if !c.wait(s, d) {
		return
	}
	for _, p := range ports {
		p.mem.End()
	}
	for _, p := range packets {
		p.End()
	}
	d.told = true
	if c.wait(s, d) {
		c.kill(exitKilled)
		<-c.done
	}
}

// wait returns true when the current step of d is over and false when the
// container has ended.
func (c *container) wait(s *stopping, d *drainage) bool {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return false
		case <-s.sooner:
		case <-tick.C:
		}
		c.mu.Lock()
		left := time.Until(s.deadline)
		c.mu.Unlock()
		next, over := d.step(time.Now(), left)
		if over {
			return true
		}
		tick.Reset(next)
	}
}

// drainage decides, from time to time, what may happen to the connections of a
// guest that shall end.
type drainage struct {
	ports   []*port
	quiet   time.Duration // for how long an answered connection counts as busy
	reserve time.Duration // what the guest gets to end after it is told
	told    bool
	retired map[*memconn.Conn]time.Time
}

const (
	drainTick = 5 * time.Millisecond
	maxQuiet  = time.Second
	minQuiet  = 20 * time.Millisecond
	// maxReserve is enough for any program to leave its accept loop.
	maxReserve = 2 * time.Second
)

func newDrainage(ports []*port, grace time.Duration) *drainage {
	return &drainage{
		ports: ports, retired: map[*memconn.Conn]time.Time{},
		quiet:   min(max(grace/20, minQuiet), maxQuiet),
		reserve: min(grace/5, maxReserve),
	}
}

// canBeTold reports whether the guest ever looked at a listener, or somebody
// waits there for it to do so. Any other guest would never learn of its end.
func (d *drainage) canBeTold() bool {
	for _, p := range d.ports {
		if live, _ := p.mem.Live(); len(live) > 0 || p.mem.Used() {
			return true
		}
	}
	return false
}

// step does what can be done now. It returns when to look again, or that this
// part is over: before telling, when no connection is left or it is time to
// tell; after it, when the time is up.
func (d *drainage) step(now time.Time, left time.Duration) (next time.Duration, over bool) {
	if d.told {
		return left, left <= 0
	}
	busy := 0
	for _, p := range d.ports {
		live, _ := p.mem.Live()
		for _, c := range live {
			if !d.settled(c, now) {
				busy++
			}
		}
	}
	if busy == 0 || left <= d.reserve {
		return 0, true
	}
	return min(drainTick, left-d.reserve), false
}

// settled reports whether a connection needs no more waiting for. Idle ones are
// retired: the guest reads the end of file, the client's next write fails, both
// in one step, so that no request can slip in between.
func (d *drainage) settled(c *memconn.Conn, now time.Time) bool {
	if at, ok := d.retired[c]; ok {
		// The guest closes when it reads the end; one that does not is not
		// going to answer anything on this connection any more.
		return now.Sub(at) > 2*d.quiet
	}
	st := c.State()
	if st.EOF && st.Broken || st.Reset {
		return true
	}
	if c.RetireIdle(func(st memconn.State) bool { return d.idle(st, now) }) {
		d.retired[c] = now
	}
	return false
}

// idle: the guest has answered all it read, the client has taken the answer,
// and both have been quiet since. A client that has connected and said nothing
// yet gets twice that time to begin.
func (d *drainage) idle(st memconn.State, now time.Time) bool {
	quiet := d.quiet
	switch {
	case st.Unread > 0 || st.EOF || st.Unsent > 0:
		return false
	case st.Fresh:
		quiet *= 2
	case !st.Answered:
		return false
	}
	return now.Sub(st.Changed) >= quiet
}
