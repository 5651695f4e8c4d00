package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

func BenchmarkMemoryWrites(b *testing.B) { storetest.BenchmarkWrites(b, memoryPlace) }

// BenchmarkFanOut is one write seen by many watchers of its prefix.
func BenchmarkFanOut(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("watchers=", watchers), func(b *testing.B) {
			watched(b, watchers, func(int) string { return "pods/" }, watchers)
		})
	}
}

// BenchmarkBystanders is one write seen by one watcher while many others look
// at other keys: agents that watch the pods of their own node.
func BenchmarkBystanders(b *testing.B) {
	for _, watchers := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint("watchers=", watchers), func(b *testing.B) {
			watched(b, watchers, func(i int) string {
				if i == 0 {
					return "pods/"
				}
				return fmt.Sprintf("secrets/ns-%d/", i)
			}, 1)
		})
	}
}

// watched writes b.N times under pods/ and waits each time until as many
// watchers as expected have seen it.
func watched(b *testing.B, watchers int, prefix func(int) string, expected int) {
	s, _ := storetest.Start(b, memoryPlace(b), store.Options{})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	seen := make(chan struct{}, watchers)
	for i := range watchers {
		w, err := s.Watch(prefix(i), 0)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer w.Stop()
			for {
				if _, err := w.Next(ctx); err != nil {
					return
				}
				seen <- struct{}{}
			}
		})
	}
	revision := uint64(0)
	for b.Loop() {
		e, err := s.Put(ctx, "pods/x", nil, revision)
		if err != nil {
			b.Fatal(err)
		}
		revision = e.Revision
		for range expected {
			<-seen
		}
	}
}

// BenchmarkList is a page of 500 and a whole list of 100,000 entries.
func BenchmarkList(b *testing.B) {
	s, _ := storetest.Start(b, memoryPlace(b), store.Options{})
	storetest.Fill(b, s, 100_000, 16)
	for _, limit := range []int{500, 0} {
		b.Run(fmt.Sprint("limit=", limit), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.List(b.Context(), "fill/", store.ListOptions{Limit: limit}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
