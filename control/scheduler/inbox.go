package scheduler

import (
	"context"
	"sync"
	"time"
)

// inbox carries what happened to the goroutine that owns the state. It has no
// bound: its senders are informers, which must not block.
type inbox struct {
	mu      sync.Mutex
	letters []func(context.Context)
	arrived chan struct{} // capacity 1
}

func (i *inbox) put(apply func(context.Context)) {
	i.mu.Lock()
	i.letters = append(i.letters, apply)
	i.mu.Unlock()
	select {
	case i.arrived <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (i *inbox) take() []func(context.Context) {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := i.letters
	i.letters = nil
	return all
}

// wait blocks until something arrives, limit has passed (0: no limit) or ctx
// ends.
func (i *inbox) wait(ctx context.Context, limit time.Duration) {
	var timeout <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
	case <-i.arrived:
	case <-timeout:
	}
}
