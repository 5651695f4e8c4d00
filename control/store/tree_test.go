package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkTree verifies order, sizes and balance, and returns the keys.
func checkTree(t *testing.T, n *node) []string {
	t.Helper()
	if n == nil {
		return nil
	}
	left, right := checkTree(t, n.left), checkTree(t, n.right)
	l, r := len(left), len(right)
	if n.count != l+r+1 {
		t.Fatalf("size %d of %d entries", n.count, l+r+1)
	}
	if l+r > 1 && (l > treeDelta*r || r > treeDelta*l) {
		t.Fatalf("out of balance: %d and %d", l, r)
	}
	return slices.Concat(left, []string{n.entry.Key}, right)
}

func TestTreeAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	var root *node
	truth := map[string]*Entry{}
	type state struct {
		root *node
		keys []string
	}
	var old []state
	for i := range 4000 {
		key := fmt.Sprintf("%c/%03d", 'a'+rune(random.IntN(3)), random.IntN(300))
		// Long phases of growing and of shrinking.
		if random.IntN(10) < 3+4*(i/1000%2) {
			delete(truth, key)
			root = root.without(key)
		} else {
			truth[key] = &Entry{Key: key, Revision: uint64(i)}
			root = root.with(truth[key])
		}
		if i%200 != 0 {
			continue
		}
		want := slices.Sorted(maps.Keys(truth))
		if got := checkTree(t, root); !slices.Equal(got, want) {
			t.Fatalf("step %d: got %v, want %v", i, got, want)
		}
		for _, key := range []string{"", "a/", "b/150", "b0", "z"} {
			rank, _ := slices.BinarySearch(want, key)
			if got := root.rank(key); got != rank {
				t.Fatalf("step %d: rank(%q) = %d, want %d", i, key, got, rank)
			}
			var from []string
			root.ascend(key, func(e *Entry) bool { from = append(from, e.Key); return true })
			if !slices.Equal(from, want[rank:]) {
				t.Fatalf("step %d: ascend(%q) = %v, want %v", i, key, from, want[rank:])
			}
			if got := root.get(key); got != truth[key] {
				t.Fatalf("step %d: get(%q) = %v, want %v", i, key, got, truth[key])
			}
		}
		old = append(old, state{root, want})
	}
	for i, s := range old {
		if got := checkTree(t, s.root); !slices.Equal(got, s.keys) {
			t.Errorf("view %d has changed since", i)
		}
	}
}

func TestBuildTree(t *testing.T) {
	for n := range 70 {
		var entries []*Entry
		var want []string
		for i := range n {
			want = append(want, fmt.Sprintf("%03d", i))
			entries = append(entries, &Entry{Key: want[i]})
		}
		if got := checkTree(t, buildTree(entries)); !slices.Equal(got, want) {
			t.Errorf("%d entries: got %v", n, got)
		}
	}
}

func TestAfterPrefix(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a/": "a0", "a\xff": "b", "a\xfe\xff\xff": "a\xff"} {
		if got, ok := afterPrefix(prefix); got != want || !ok {
			t.Errorf("afterPrefix(%q) = %q, %t, want %q", prefix, got, ok, want)
		}
	}
	for _, prefix := range []string{"", "\xff", "\xff\xff"} {
		if got, ok := afterPrefix(prefix); ok {
			t.Errorf("afterPrefix(%q) = %q, want none", prefix, got)
		}
	}
}
