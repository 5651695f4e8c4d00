package wasi

import "sync/atomic"

// Descriptors bounds the descriptors of the host that all guests of a process
// hold together, so that some are left for the process itself. It is safe for
// concurrent use; nil is no bound.
type Descriptors struct{ free atomic.Int64 }

// NewDescriptors makes a bound of n.
func NewDescriptors(n int64) *Descriptors {
	d := &Descriptors{}
	d.free.Store(n)
	return d
}

// Take takes one, if there is one left.
func (d *Descriptors) Take() bool {
	if d == nil {
		return true
	}
	if d.free.Add(-1) >= 0 {
		return true
	}
	d.free.Add(1)
	return false
}

// Give gives one back.
func (d *Descriptors) Give() {
	if d != nil {
		d.free.Add(1)
	}
}

// Free is how many are left.
func (d *Descriptors) Free() int64 { return d.free.Load() }
