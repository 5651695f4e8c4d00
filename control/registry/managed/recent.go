package managed

import "sync"

// recent keeps values by texts, up to twice its limit of them: when there are
// so many new ones, those that nobody has asked for since the last time go. It
// is safe for concurrent use.
type recent[V any] struct {
	limit int

	mu          sync.Mutex
	newer, last map[string]V // last has been newer before
}

func (r *recent[V]) get(key []byte) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.newer[string(key)]; ok {
		return known, true
	}
	known, ok := r.last[string(key)]
	if ok {
		r.put(key, known)
	}
	return known, ok
}

// keep keeps a value, unless there is one already, and returns the one that is
// kept.
func (r *recent[V]) keep(key []byte, value V) V {
	if known, ok := r.get(key); ok {
		return known
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.newer[string(key)]; ok {
		return known
	}
	r.put(key, value)
	return value
}

func (r *recent[V]) put(key []byte, value V) {
	if len(r.newer) >= r.limit || r.newer == nil {
		r.last, r.newer = r.newer, make(map[string]V, 16)
	}
	r.newer[string(key)] = value
}
