package natskv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"wherry.dev/wherry/control/store"
)

// group commits: it makes one sync serve all that wait for one.
type group struct {
	sync func() error
	want chan struct{} // holds a token when somebody waits

	mu      sync.Mutex
	written uint64        // newest revision known to be written
	durable uint64        // newest revision known to be on disk
	err     error         // the sync that failed; there is no way back from it
	stuck   error         // why the newest sync could not be completed yet
	force   bool          // sync although nobody waits
	changed chan struct{} // closed when durable or err changes
	done    chan struct{} // closed when run has ended
}

func newGroup(sync func() error, durable uint64) *group {
	return &group{
		sync: sync, want: make(chan struct{}, 1), written: durable, durable: durable,
		changed: make(chan struct{}), done: make(chan struct{}),
	}
}

// note says that a revision, and so every one before it, has been written.
func (g *group) note(revision uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written = max(g.written, revision)
}

// settled returns the newest revision known to be on disk.
func (g *group) settled() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.durable
}

// wait blocks until a revision that has been written is on disk.
func (g *group) wait(ctx context.Context, revision uint64) error {
	for {
		g.mu.Lock()
		g.written = max(g.written, revision)
		err, durable, changed := g.err, g.durable, g.changed
		g.mu.Unlock()
		if durable >= revision {
			return nil
		}
		if err != nil {
			return err
		}
		g.ask()
		select {
		case <-changed:
		case <-g.done:
			return store.ErrClosed
		case <-ctx.Done():
			return g.explain(ctx.Err())
		}
	}
}

// explain says why a sync is not done in time.
func (g *group) explain(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stuck != nil {
		return fmt.Errorf("%w: %w (%w)", store.ErrNoSpace, g.stuck, err)
	}
	return err
}

// every asks for a sync now and then, whether somebody waits or not, until ctx
// ends.
func (g *group) every(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		g.mu.Lock()
		g.force = true
		g.mu.Unlock()
		g.ask()
	}
}

func (g *group) ask() {
	select {
	case g.want <- struct{}{}:
	default:
	}
}

// run syncs when somebody waits, until ctx ends or a sync fails. After a failed
// sync the operating system may have dropped what it could not write, so a
// second one that succeeds would prove nothing.
func (g *group) run(ctx context.Context) error {
	defer close(g.done)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.want:
		}
		g.mu.Lock()
		target := g.written
		needed := target > g.durable || g.force
		g.force = false
		g.mu.Unlock()
		if !needed {
			continue
		}
		err := g.sync()
		if errors.Is(err, errNoRoom) {
			if !g.postpone(ctx, err) {
				return nil
			}
			continue
		}
		g.mu.Lock()
		if g.stuck = nil; err == nil {
			g.durable = max(g.durable, target)
		} else {
			g.err = fmt.Errorf("the store's disk refuses to sync, check it and start again: %w", err)
			err = g.err
		}
		close(g.changed)
		g.changed = make(chan struct{})
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// postpone lets a sync that nothing is lost by begin again after a while.
func (g *group) postpone(ctx context.Context, err error) bool {
	g.mu.Lock()
	g.stuck, g.force = err, true
	g.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case <-time.After(restartWait):
	}
	g.ask()
	return true
}
