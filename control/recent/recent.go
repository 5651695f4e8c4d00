// Package recent keeps values by texts, the ones that were asked for last: for
// what many objects have in common and what is dear to make of a text.
package recent

import "sync"

// Values holds up to twice its Limit of values: when there are so many new ones,
// those that nobody has asked for since the last time go. The zero value, with a
// Limit, is ready; it is safe for concurrent use.
type Values[V any] struct {
	Limit int

	mu          sync.Mutex
	newer, last map[string]V // last has been newer before
}

// Get returns the value of a text. The text is not retained.
func (v *Values[V]) Get(text []byte) (V, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.newer[string(text)]; ok {
		return known, true
	}
	known, ok := v.last[string(text)]
	if ok {
		v.put(text, known)
	}
	return known, ok
}

// Keep keeps a value, unless the text has one already, and returns the one that
// is kept.
func (v *Values[V]) Keep(text []byte, value V) V {
	if known, ok := v.Get(text); ok {
		return known
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.newer[string(text)]; ok {
		return known
	}
	v.put(text, value)
	return value
}

func (v *Values[V]) put(text []byte, value V) {
	if len(v.newer) >= v.Limit || v.newer == nil {
		v.last, v.newer = v.newer, make(map[string]V, 16)
	}
	v.newer[string(text)] = value
}
