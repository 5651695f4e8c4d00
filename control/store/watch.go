package store

import (
	"context"
	"errors"
	"fmt"
)

// extendStep bounds how long one look into history holds the lock: some 16k
// comparisons, well under a millisecond.
const extendStep = 16 << 10

// Watcher is a position in the history of the keys under a prefix. It is used
// by one goroutine and costs the writers nothing while it is slow: it reads
// from the ring that all watchers share, until it falls out of it.
type Watcher struct {
	store   *Store
	group   *group
	index   int64
	from    uint64
	stopped bool
}

// Watch yields the events after a revision under a prefix, in the order of
// revisions; from 0 means from now on. ErrCompacted: the history no longer
// reaches back that far, so list and watch from the list's revision.
// ErrFutureRevision: that revision has not been given out yet.
func (s *Store) Watch(prefix string, from uint64) (*Watcher, error) {
	select {
	case <-s.ready:
	default:
		return nil, errors.New("watch: the store is still replaying its log, call WaitReady first")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.view.Load().revision
	if from == 0 {
		from = now
	}
	if from > now {
		return nil, fmt.Errorf("watch from %d, newest is %d: %w", from, now, ErrFutureRevision)
	}
	g := s.history.join(prefix)
	for {
		if from < s.history.compacted {
			s.history.leave(g)
			return nil, fmt.Errorf("watch from %d, oldest is %d: %w", from, s.history.compacted, ErrCompacted)
		}
		position := s.history.after(from)
		if s.history.extend(g, position, extendStep) {
			return &Watcher{store: s, group: g, index: g.index(position), from: from}, nil
		}
		// A writer goes first before the next step back in history.
		s.mu.Unlock()
		s.mu.Lock()
	}
}

// Next blocks until there is an event or ctx ends. ErrCompacted: the watcher
// was too slow and missed events. ErrClosed: the store has ended.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		event, wake, err := w.poll(true)
		if err != nil || wake == nil {
			return event, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-w.store.done:
			return Event{}, ErrClosed
		}
	}
}

// Ready is Next without waiting: ok is false when there is no event yet.
func (w *Watcher) Ready() (event Event, ok bool, err error) {
	event, wake, err := w.poll(false)
	return event, err == nil && wake == nil, err
}

// poll returns the next event or, when there is none yet, what wakes up those
// who wait for it, as the caller will.
func (w *Watcher) poll(waits bool) (Event, <-chan struct{}, error) {
	s := w.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	event, ok, gone := s.history.at(w.group, w.index)
	switch {
	case gone:
		return Event{}, nil, fmt.Errorf("watch of %q fell out of the history: %w", w.group.prefix, ErrCompacted)
	case ok:
		w.index++
		w.from = event.Entry.Revision
		return event, nil, nil
	default:
		// Writers hold the lock exclusively, so the flag and the channel
		// belong together.
		if waits {
			w.group.parked.Store(true)
		}
		return Event{}, w.group.wake, nil
	}
}

// Progress returns the revision up to which the watcher has yielded everything
// under its prefix: a bookmark. For a watcher with nothing to yield it is the
// store's newest revision, however long ago its last event was.
func (w *Watcher) Progress() uint64 {
	s := w.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, ok, gone := s.history.at(w.group, w.index); ok || gone {
		return w.from
	}
	return s.view.Load().revision
}

// Stop frees the watcher. Next must not be called after it.
func (w *Watcher) Stop() {
	if w.stopped {
		return
	}
	w.stopped = true
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.history.leave(w.group)
}
