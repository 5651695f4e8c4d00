package app

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"wherry.dev/wherry/control/headroom"
)

const (
	// tidyEvery is how often the process looks how busy it has been.
	tidyEvery = 5 * time.Second
	// tidyAfter is how many times in a row it must have been quiet.
	tidyAfter = 2
	// quietShare of a processor is what a cluster without load takes at most, and
	// busyShare what makes it worth while to tidy up once more afterwards.
	quietShare = 0.03
	busyShare  = 0.10
)

// tidier gives back what a burst of work has left behind once the process has
// been quiet for a while: once after each burst, the start being the first one.
// A process that always works never gets there.
type tidier struct {
	used func() time.Duration // processor time of the process so far
	tidy func()

	last  time.Duration
	quiet int
	clean bool // nothing has happened since tidy was called last
}

// look is called after each interval.
func (t *tidier) look(interval time.Duration) {
	used := t.used()
	share := float64(used-t.last) / float64(interval)
	t.last = used
	if share > busyShare {
		t.clean = false
	}
	if share > quietShare {
		t.quiet = 0
		return
	}
	if t.quiet++; t.quiet < tidyAfter || t.clean {
		return
	}
	t.tidy()
	t.clean = true
	t.last = t.used() // its own work is no burst
}

// keepTidy runs a tidier of this process until ctx ends. It does nothing where
// the system does not tell what it needs.
func keepTidy(ctx context.Context) {
	if processorTime() == 0 {
		return
	}
	t := &tidier{used: processorTime, tidy: giveBack, last: processorTime()}
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			t.look(now.Sub(began))
			began = time.Now()
		}
	}
}

// giveBack collects garbage, returns the heap's free pages to the system, and
// lets go of the pages of the program itself: most of them hold what only the
// start or the burst has needed. Those that are needed come back as they are
// touched, from the page cache without a read unless the system has found a
// better use for the memory.
func giveBack() {
	debug.FreeOSMemory()
	dropProgramPages()
}

// keepSmall starts what keeps the process small until ctx ends. The function that
// it returns waits for the end.
func keepSmall(ctx context.Context) (wait func()) {
	var all sync.WaitGroup
	all.Go(func() { headroom.Keep(ctx) })
	all.Go(func() { keepTidy(ctx) })
	return all.Wait
}
