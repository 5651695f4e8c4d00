package store

import "sync"

// Entry is one value of one key. Entries are shared by everything that reads
// them and are never changed, the bytes of Value included.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64

	mu       sync.Mutex
	memo, by any
}

// Memo returns what decode makes of the entry. The first result is kept beside
// the bytes, so that one decoded copy serves all readers; an error is not
// kept. by stands for what decode does: who comes with another one (a kind that
// is defined anew) decodes again. All must treat the result as immutable.
func (e *Entry) Memo(by any, decode func(*Entry) (any, error)) (any, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.memo != nil && e.by == by {
		return e.memo, nil
	}
	made, err := decode(e)
	if err != nil {
		return nil, err
	}
	e.memo, e.by = made, by
	return made, nil
}

// forget lets go of what Memo keeps, for an entry that few will read again;
// they decode it anew. One that is being decoded is left alone.
func (e *Entry) forget() {
	if e.mu.TryLock() {
		e.memo, e.by = nil, nil
		e.mu.Unlock()
	}
}

// Event is one change of one key.
type Event struct {
	// Entry is the new value or, for a deletion, the last value with the
	// revision of the deletion.
	Entry *Entry
	// Prev is the value before the change, nil for a creation.
	Prev    *Entry
	Deleted bool
}
