package memconn

import "sync/atomic"

// Budget bounds what the buffers of many connections hold together, as tcp_mem
// does for the sockets of a machine: beyond it a direction keeps the buffer
// that it has, or a small one, so that all go on, more slowly. It is safe for
// concurrent use; nil is no bound.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget makes a budget of so many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is how many bytes the buffers take now.
func (b *Budget) Used() int64 { return b.used.Load() }

func (b *Budget) spent() bool { return b != nil && b.used.Load() >= b.limit }

func (b *Budget) add(n int) {
	if b != nil && n != 0 {
		b.used.Add(int64(n))
	}
}

// most is how many bytes a direction may hold now.
func (r *ring) most() int {
	if r.budget.spent() {
		return max(len(r.buf), firstBuffer)
	}
	return MaxBuffer
}

// drop frees what a direction holds.
func (r *ring) drop() {
	r.budget.add(-len(r.buf))
	*r = ring{budget: r.budget}
}
