package module

import "sync"

// Pool bounds the memories and stacks of several gauges together: those of a
// pod. It is safe for concurrent use; a nil one has no bound.
type Pool struct {
	mu    sync.Mutex
	used  uint64
	limit uint64 // bytes, whole pages
}

// NewPool makes a pool with a limit in bytes, rounded down to pages of 64 KiB;
// 0: no bound.
func NewPool(limit int64) *Pool {
	if limit <= 0 {
		return nil
	}
	return &Pool{limit: pages(limit)}
}

// change counts a gauge's use, and reports whether all of them are within the
// limit with it. What is not does not count, unless it has happened already.
func (p *Pool) change(from, to uint64, happened bool) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.used - from + to
	if fits := used <= p.limit; !fits && to > from && !happened {
		return false
	}
	p.used = used
	return used <= p.limit || to <= from
}
