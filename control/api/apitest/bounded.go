package apitest

import (
	"runtime/metrics"
	"testing"
)

// Bounded calls work and fails the test if it has allocated more bytes than the
// limit, kept or not: a fuzz target's guard against inputs that make much of
// little. What other goroutines allocate meanwhile counts too, so a limit is
// generous: several times what good input needs.
func Bounded(t testing.TB, limit uint64, work func()) {
	t.Helper()
	before := allocated()
	work()
	if used := allocated() - before; used > limit {
		t.Errorf("%d bytes were allocated, more than %d", used, limit)
	}
}

// allocated is how much memory this process has ever asked for.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
