package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Memory is a Log that forgets everything with its process: for tests and for
// trying things out. It can be replayed any number of times, also at once.
type Memory struct {
	mu        sync.Mutex
	last      uint64
	live      map[string]Record
	followers map[*follower]struct{}
}

// follower is one Replay's queue of records to come.
type follower struct {
	queue []Record
	more  chan struct{} // holds a token when queue has something
}

// NewMemory returns an empty log. Its first record gets revision 2, because
// the revision of the empty log, 1, must differ from 0, which means "any" to
// the users of revisions.
func NewMemory() *Memory {
	return &Memory{last: 1, live: map[string]Record{}, followers: map[*follower]struct{}{}}
}

// Append implements Log.
func (m *Memory) Append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, exists := m.live[key]
	if old.Revision != expect || (deleted && !exists) {
		return old.Revision, fmt.Errorf("%q is at %d, not at %d: %w", key, old.Revision, expect, ErrConflict)
	}
	m.last++
	record := Record{Key: key, Value: bytes.Clone(value), Deleted: deleted, Revision: m.last}
	if deleted {
		delete(m.live, key)
	} else {
		m.live[key] = record
	}
	for f := range m.followers {
		f.queue = append(f.queue, record)
		select {
		case f.more <- struct{}{}:
		default:
		}
	}
	return m.last, nil
}

// Last implements Shared.
func (m *Memory) Last(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, nil
}

// Replay implements Log.
func (m *Memory) Replay(ctx context.Context, ready func(last uint64), apply func(Record)) error {
	f := &follower{more: make(chan struct{}, 1)}
	m.mu.Lock()
	records := make([]Record, 0, len(m.live))
	for _, r := range m.live {
		records = append(records, r)
	}
	last := m.last
	m.followers[f] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.followers, f)
	}()
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, r := range records {
		apply(r)
	}
	ready(last)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.more:
		}
		m.mu.Lock()
		records, f.queue = f.queue, nil
		m.mu.Unlock()
		for _, r := range records {
			apply(r)
		}
	}
}
