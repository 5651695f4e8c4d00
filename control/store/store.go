package store

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// DefaultHistoryBytes bounds the history when Options does not.
const DefaultHistoryBytes = 64 << 20

// ErrClosed: the store's Run has ended.
var ErrClosed = errors.New("store closed")

// Options tune a Store; the zero value serves.
type Options struct {
	// HistoryBytes bounds the superseded values that are kept for watches and
	// lists of old revisions.
	HistoryBytes int64
	// Shared says that other processes write the log too, which must be a
	// Shared then.
	Shared bool
	Log    *slog.Logger // nil: discard
}

// Store is the memory image of a Log. Reads, lists and watches are answered
// from memory; writes go to the log and return when they have come back from
// it, so that a caller reads what it wrote. All methods may be called from any
// goroutine while Run runs.
type Store struct {
	log       Log
	logr      *slog.Logger
	shared    Shared // nil: nobody else writes the log
	freshness freshness

	view  atomic.Pointer[view]
	ready chan struct{} // closed when the replay has caught up
	done  chan struct{} // closed when Run has ended

	mu      sync.RWMutex // guards the rest, and the order of view's changes
	history *history
	views   []*view // of unfinished paged lists
	waiters waiters
	loading map[string]*Entry // live entries until the replay has caught up
}

// New returns a store over a log. It is empty until Run has replayed the log.
func New(log Log, opts Options) *Store {
	if opts.HistoryBytes <= 0 {
		opts.HistoryBytes = DefaultHistoryBytes
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		log: log, logr: opts.Log,
		ready: make(chan struct{}), done: make(chan struct{}),
		history: newHistory(opts.HistoryBytes),
		loading: map[string]*Entry{},
	}
	if opts.Shared {
		s.shared, _ = log.(Shared)
	}
	s.freshness.turn = make(chan struct{}, 1)
	s.view.Store(&view{})
	return s
}

// Run follows the log until ctx ends, which is no error, or the log breaks. It
// must be called once.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.done)
	err := s.log.Replay(ctx, s.caughtUp, s.apply)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("follow the log: %w", err)
}

// WaitReady blocks until the replay has caught up.
func (s *Store) WaitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
}

// Revision returns the newest revision that is visible.
func (s *Store) Revision() uint64 { return s.view.Load().revision }

// Compacted returns the oldest revision from which a watch can start and at
// which a list is possible.
func (s *Store) Compacted() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.history.compacted
}

// WaitRevision blocks until a revision is visible: a read after it is at least
// as new.
func (s *Store) WaitRevision(ctx context.Context, revision uint64) error {
	_, err := s.wait(ctx, revision)
	return err
}

// caughtUp makes the loaded entries visible.
func (s *Store) caughtUp(last uint64) {
	entries := make([]*Entry, 0, len(s.loading))
	for _, e := range s.loading {
		entries = append(entries, e)
		last = max(last, e.Revision)
	}
	slices.SortFunc(entries, func(a, b *Entry) int { return strings.Compare(a.Key, b.Key) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loading = nil
	s.history.compacted = last
	s.view.Store(&view{root: buildTree(entries), revision: last})
	s.logr.Debug("store is ready", "revision", last, "keys", len(entries))
	close(s.ready)
	s.waiters.release(last, nil)
}

// apply takes one record from the log.
func (s *Store) apply(r Record) {
	if s.loading != nil {
		s.load(r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view.Load()
	if r.Revision <= v.revision {
		return // a log may say things twice
	}
	entry := &Entry{Key: r.Key, Value: r.Value, Revision: r.Revision}
	event := Event{Entry: entry, Prev: v.root.get(r.Key), Deleted: r.Deleted}
	root := v.root
	switch {
	case !r.Deleted:
		root = root.with(entry)
	case event.Prev != nil:
		root = root.without(r.Key)
		entry.Value = event.Prev.Value // the same bytes; keep one copy
	}
	s.view.Store(&view{root: root, revision: r.Revision})
	if event.Prev != nil || !r.Deleted {
		s.history.append(event)
		s.dropViews()
	}
	s.waiters.release(r.Revision, entry)
}

func (s *Store) load(r Record) {
	if old := s.loading[r.Key]; old != nil && old.Revision >= r.Revision {
		return
	}
	if r.Deleted {
		delete(s.loading, r.Key)
		return
	}
	s.loading[r.Key] = &Entry{Key: r.Key, Value: r.Value, Revision: r.Revision}
}

// waiter waits until a revision is visible.
type waiter struct {
	revision uint64
	entry    *Entry // the entry with exactly that revision, where there is one
	visible  chan struct{}
}

// waiters is a heap by revision.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].revision < w[j].revision }
func (w waiters) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiters) Push(x any)        { *w = append(*w, x.(*waiter)) }
func (w *waiters) Pop() any {
	old := *w
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	return last
}

// release wakes all who wait for a revision up to this one.
func (w *waiters) release(revision uint64, entry *Entry) {
	for len(*w) > 0 && (*w)[0].revision <= revision {
		first := heap.Pop(w).(*waiter)
		if first.revision == revision {
			first.entry = entry
		}
		close(first.visible)
	}
}

// wait blocks until a revision is visible. The entry is nil when the revision
// was visible before or never came by itself.
func (s *Store) wait(ctx context.Context, revision uint64) (*Entry, error) {
	s.mu.Lock()
	if s.view.Load().revision >= revision {
		s.mu.Unlock()
		return nil, nil
	}
	w := &waiter{revision: revision, visible: make(chan struct{})}
	heap.Push(&s.waiters, w)
	s.mu.Unlock()
	select {
	case <-w.visible:
		return w.entry, nil
	case <-s.done:
		return nil, ErrClosed
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiters, w); i >= 0 {
		heap.Remove(&s.waiters, i)
	}
	return nil, ctx.Err()
}
