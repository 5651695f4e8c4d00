package wasm

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

func TestUsesUnloadsTheLongestUnused(t *testing.T) {
	var gone []string
	u := newUses(func(sum string) { gone = append(gone, sum) })
	held := u.acquire("held")
	for i := range keepUnused + 2 {
		release := u.acquire(fmt.Sprint(i))
		release()
		release() // once is enough
	}
	if want := []string{"0", "1"}; !slices.Equal(gone, want) {
		t.Fatalf("unloaded %v, want %v", gone, want)
	}
	again := u.acquire("2") // was the next to go
	u.acquire("new")()
	if want := []string{"0", "1"}; !slices.Equal(gone, want) {
		t.Fatalf("unloaded %v, want %v", gone, want)
	}
	again()
	held()
	if slices.Contains(gone, "held") || slices.Contains(gone, "2") {
		t.Fatalf("unloaded %v, among them one that was just used", gone)
	}
}

func TestUsesNeverUnloadsWhatIsUsed(t *testing.T) {
	var mu sync.Mutex
	using := map[string]int{}
	u := newUses(func(sum string) {
		mu.Lock()
		defer mu.Unlock()
		if using[sum] != 0 {
			t.Errorf("%s is unloaded with %d users", sum, using[sum])
		}
	})
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 500 {
				sum := fmt.Sprint((worker + i*7) % 30)
				release := u.acquire(sum)
				mu.Lock()
				using[sum]++
				mu.Unlock()
				mu.Lock()
				using[sum]--
				mu.Unlock()
				release()
			}
		})
	}
	group.Wait()
	if len(u.users) != 0 || len(u.unused) != keepUnused {
		t.Errorf("%d in use, %d unused at the end", len(u.users), len(u.unused))
	}
}
