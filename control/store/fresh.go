package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Shared is a Log that several processes write. Its Last tells how far it is.
type Shared interface {
	Log
	// Last returns the newest revision of the log, as whoever orders its
	// records knows it.
	Last(ctx context.Context) (uint64, error)
}

// askTimeout bounds one question to the log.
const askTimeout = 5 * time.Second

// freshness asks a shared log for its newest revision. All who come while a
// question is on its way share the next one.
type freshness struct {
	mu   sync.Mutex
	next *question
	turn chan struct{} // holds a token while a question is on its way
}

type question struct {
	done     chan struct{}
	revision uint64
	err      error
}

// Fresh blocks until memory has everything that the log had when it was called:
// what another process has been answered is visible then. Where this process
// alone writes the log, that is always so.
func (s *Store) Fresh(ctx context.Context) error {
	if s.shared == nil {
		return nil
	}
	f := &s.freshness
	f.mu.Lock()
	q := f.next
	asks := q == nil
	if asks {
		q = &question{done: make(chan struct{})}
		f.next = q
	}
	f.mu.Unlock()
	if asks {
		f.turn <- struct{}{}
		f.mu.Lock()
		f.next = nil // who comes from now on needs a newer answer
		f.mu.Unlock()
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		q.revision, q.err = s.shared.Last(asking)
		cancel()
		<-f.turn
		close(q.done)
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if q.err != nil {
		return fmt.Errorf("ask the log how far it is: %w", q.err)
	}
	_, err := s.wait(ctx, q.revision)
	return err
}
