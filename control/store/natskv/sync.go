package natskv

import (
	"context"
	"fmt"
	"sync"

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
		select {
		case g.want <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-g.done:
			return store.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
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
		needed := target > g.durable
		g.mu.Unlock()
		if !needed {
			continue
		}
		err := g.sync()
		g.mu.Lock()
		if err == nil {
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
