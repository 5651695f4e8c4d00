package module

import (
	"sync"
	"time"
)

const (
	// trimPatience is how long a guest waits before its memory is trimmed, and
	// trimRest how long after that it is not trimmed again: what is given back
	// costs a fault when it is wanted, some 0.1 ms for a Go server.
	trimPatience = 5 * time.Second
	trimRest     = 30 * time.Second
	// trimPause is between two steps of any guests of the process. A step takes
	// less than a millisecond.
	trimPause = 20 * time.Millisecond
	// trimLeast is the least size of a memory that is worth it.
	trimLeast = 1 << 20
	// never is when a guest that has been trimmed is to be looked at again, while
	// it goes on waiting.
	never = time.Duration(1<<63 - 1)
)

// Trimmer lets guests that wait for long give back memory that they hold for
// nothing: pages that are all zero, and pages of their image that they have only
// read. The next access finds them as they were. It spreads the work of all
// guests over time.
type Trimmer struct {
	mu   sync.Mutex
	free time.Time // when the next step may begin
}

// reserve returns when a step may begin.
func (t *Trimmer) reserve(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free.Before(now) {
		t.free = now
	}
	at := t.free
	t.free = at.Add(trimPause)
	return at
}

// Trim is the trimming of one guest's memory. It belongs to the goroutine that
// runs the guest: nothing else may use the memory while Idle is called.
type Trim struct {
	trimmer *Trimmer
	memory  *Gauge
	slot    time.Time // when a step was to begin; zero: none is due
	from    uint64    // where it begins
	rest    time.Time // nothing before
}

// NewTrim makes the trimming of a memory.
func (t *Trimmer) NewTrim(memory *Gauge) *Trim { return &Trim{trimmer: t, memory: memory} }

// Idle is called when the guest begins to wait, and while it waits each time
// after so long as the last call has answered. waited is the time since it began.
func (t *Trim) Idle(waited time.Duration) (again time.Duration) {
	if waited == 0 {
		t.from, t.slot = 0, time.Time{}
		if t.memory.small() {
			return never
		}
	}
	now := time.Now()
	if early := max(trimPatience-waited, t.rest.Sub(now)); early > 0 {
		return early
	}
	if t.slot.IsZero() {
		t.slot = t.trimmer.reserve(now)
	}
	if early := t.slot.Sub(now); early > 0 {
		return early
	}
	t.slot = time.Time{}
	if t.from = t.memory.trim(t.from); t.from > 0 {
		return trimPause
	}
	t.rest = now.Add(trimRest)
	return never
}

func (g *Gauge) small() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.region == nil || g.size < trimLeast
}

// trim gives some of the memory from an offset on back, and returns where to go
// on; 0: that was all. Its caller runs the guest.
func (g *Gauge) trim(from uint64) uint64 {
	g.mu.Lock()
	r, size := g.region, g.size
	g.mu.Unlock()
	if r == nil || from >= size {
		return 0
	}
	to := r.trim(from, size)
	g.mu.Lock()
	g.trims++
	g.mu.Unlock()
	if to < size {
		return to
	}
	return 0
}
