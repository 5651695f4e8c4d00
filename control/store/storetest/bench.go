package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"wherry.dev/wherry/control/store"
)

// BenchmarkWrites measures compare-and-swap updates of 1 KiB, durable and
// visible, by 1, 16 and 64 writers at once.
func BenchmarkWrites(b *testing.B, fresh func(t testing.TB) Place) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			s, _ := Start(b, fresh(b), store.Options{})
			value := make([]byte, 1024)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					var revision uint64
					for left.Add(-1) >= 0 {
						e, err := s.Put(b.Context(), fmt.Sprint("bench/", w), value, revision)
						if err != nil {
							b.Errorf("put: %v", err)
							return
						}
						revision = e.Revision
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

// Fill writes n keys with values of size bytes, many at once.
func Fill(t testing.TB, s *store.Store, n, size int) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			value := make([]byte, size)
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if _, err := s.Put(t.Context(), fmt.Sprintf("fill/%d/%d", i%10, i), value, 0); err != nil {
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
