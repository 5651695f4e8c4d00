package wasm

import (
	"sync"

	"wherry.dev/wherry/runtime/wasm/module"
)

// held remembers what a container holds of memory. To ask the system takes
// longer the larger the memory, and of a guest that has done nothing since
// there is nothing new to learn.
type held struct {
	mu    sync.Mutex
	known bool
	at    progress
	bytes int64
}

// progress tells whether a guest has done anything between two moments, up to
// the quantum of some 100 µs after which it must yield.
type progress struct {
	parks, trims uint64
	fuel         int64
}

func (h *held) now(at progress, memory *module.Gauge) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.known || at != h.at {
		h.known, h.at, h.bytes = true, at, memory.Held()
	}
	return h.bytes
}
