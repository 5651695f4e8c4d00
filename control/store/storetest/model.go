package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wherry.dev/wherry/control/store"
)

// change is what the model expects a watcher to see.
type change struct {
	revision   uint64
	key, value string
	prev       string // "" for none
	deleted    bool
}

// model is the plain truth: the state after each revision, and the changes.
type model struct {
	state   map[string]*store.Entry
	states  map[uint64]map[string]string // revision -> key -> value
	changes []change
}

func (m *model) record(c change) {
	m.changes = append(m.changes, c)
	state := make(map[string]string, len(m.state))
	for key, e := range m.state {
		state[key] = string(e.Value)
	}
	m.states[c.revision] = state
}

// testModel makes random writes, then compares lists at all revisions and
// watches from all revisions with what a map says.
func testModel(t *testing.T, place Place) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	s, _ := Start(t, place, store.Options{})
	m := &model{state: map[string]*store.Entry{}, states: map[uint64]map[string]string{}}
	m.record(change{revision: s.Revision()})
	m.changes = nil
	early := mustWatch(t, s, "", s.Revision())
	for i := range 300 {
		m.step(t, s, random, i)
	}
	prefixes := []string{"", "a", "a/", "a/1", "a/1/", "b/", "nothing/"}
	for revision, state := range m.states {
		prefix := prefixes[random.IntN(len(prefixes))]
		m.checkList(t, s, prefix, revision, state, 1+random.IntN(8))
		m.checkWatch(t, mustWatch(t, s, prefix, revision), prefix, revision, s.Revision())
	}
	m.checkWatch(t, early, "", 0, s.Revision())
}

// step makes one random write.
func (m *model) step(t *testing.T, s *store.Store, random *rand.Rand, i int) {
	key := fmt.Sprintf("%c/%d/%d", 'a'+rune(random.IntN(3)), random.IntN(3), random.IntN(4))
	value := fmt.Sprint("v", i)
	old := m.state[key]
	switch {
	case old == nil:
		e := mustPut(t, s, key, value, 0)
		m.state[key] = e
		m.record(change{revision: e.Revision, key: key, value: value})
	case random.IntN(3) == 0:
		if _, err := remove(t.Context(), s, key, old.Revision); err != nil {
			t.Fatalf("delete %q: %v", key, err)
		}
		delete(m.state, key)
		m.record(change{revision: s.Revision(), key: key, value: string(old.Value), prev: string(old.Value), deleted: true})
	case random.IntN(4) == 0:
		_, err := s.Put(t.Context(), key, []byte("loser"), 0)
		wantErr(t, "create over "+key, err, store.ErrConflict)
	default:
		e := mustPut(t, s, key, value, old.Revision)
		m.state[key] = e
		m.record(change{revision: e.Revision, key: key, value: value, prev: string(old.Value)})
	}
}

func (m *model) checkList(t *testing.T, s *store.Store, prefix string, revision uint64, state map[string]string, limit int) {
	t.Helper()
	var want, got []string
	for _, key := range slices.Sorted(maps.Keys(state)) {
		if strings.HasPrefix(key, prefix) {
			want = append(want, key+"="+state[key])
		}
	}
	opts := store.ListOptions{Revision: revision, Limit: limit}
	for {
		page, err := s.List(t.Context(), prefix, opts)
		if err != nil {
			t.Fatalf("list %q at %d: %v", prefix, revision, err)
		}
		for _, e := range page.Entries {
			got = append(got, e.Key+"="+string(e.Value))
			opts.After = e.Key
		}
		if page.Revision != revision || page.Remaining != len(want)-len(got) || page.More != (page.Remaining > 0) {
			t.Fatalf("list %q at %d: page %+v", prefix, revision, page)
		}
		if !page.More {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %q at %d: got %v, want %v", prefix, revision, got, want)
	}
}

func (m *model) checkWatch(t *testing.T, w *store.Watcher, prefix string, from, now uint64) {
	t.Helper()
	first, _ := slices.BinarySearchFunc(m.changes, from+1, func(c change, r uint64) int { return cmp.Compare(c.revision, r) })
	for _, want := range m.changes[first:] {
		if !strings.HasPrefix(want.key, prefix) {
			continue
		}
		if p := w.Progress(); p >= want.revision {
			t.Fatalf("watch %q from %d: progress %d before the event at %d", prefix, from, p, want.revision)
		}
		e := mustNext(t, w)
		got := change{revision: e.Entry.Revision, key: e.Entry.Key, value: string(e.Entry.Value), deleted: e.Deleted}
		if e.Prev != nil {
			got.prev = string(e.Prev.Value)
		}
		if got != want {
			t.Fatalf("watch %q from %d: got %+v, want %+v", prefix, from, got, want)
		}
	}
	idle(t, w)
	if got := w.Progress(); got != now {
		t.Fatalf("watch %q from %d: progress %d at the end, want %d", prefix, from, got, now)
	}
}

// testRacingWriters lets writers count on a few keys while watchers check that
// each event follows on the one before it.
func testRacingWriters(t *testing.T, place Place) {
	const writers, keys, each = 8, 3, 20
	s, _ := Start(t, place, store.Options{})
	for k := range keys {
		mustPut(t, s, fmt.Sprint("n/", k), "0", 0)
	}
	start := s.Revision()
	var writing, watching sync.WaitGroup
	for range 4 {
		w := mustWatch(t, s, "n/", start)
		watching.Go(func() { checkCounting(t, w, writers*each) })
	}
	for i := range writers {
		writing.Go(func() {
			for n := range each {
				if err := increment(t, s, fmt.Sprint("n/", (i+n)%keys)); err != nil {
					t.Errorf("increment: %v", err)
					return
				}
			}
		})
	}
	writing.Wait()
	watching.Wait()
	page, err := s.List(t.Context(), "n/", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, e := range page.Entries {
		n, _ := strconv.Atoi(string(e.Value)) // checkCounting has looked at it
		sum += n
	}
	if sum != writers*each {
		t.Errorf("counted %d, want %d", sum, writers*each)
	}
}

// increment adds one to a key, exactly once. With a lost acknowledgement the
// value alone does not tell whose increment it was, so a conflict proves
// nothing and the outcome is taken from the watcher's view: the entry that
// follows on the one that was read.
func increment(t testing.TB, s *store.Store, key string) error {
	for {
		old, err := s.Get(t.Context(), key)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(old.Value))
		if err != nil {
			return err
		}
		w, err := s.Watch(key, old.Revision)
		if err != nil {
			return err
		}
		// Leading zeros make the value unique to this attempt.
		value := fmt.Sprintf("%0*d", 10+int(attempt()), n+1)
		_, err = s.Put(t.Context(), key, []byte(value), old.Revision)
		if errors.Is(err, ErrLostAck) {
			var next store.Event
			if next, err = w.Next(t.Context()); err == nil && string(next.Entry.Value) != value {
				err = store.ErrConflict
			}
		}
		w.Stop()
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// attempt is a small random number.
func attempt() uint32 { return rand.Uint32N(1 << 12) }

func checkCounting(t testing.TB, w *store.Watcher, events int) {
	counts := map[string]int{}
	revision := uint64(0)
	for range events {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Errorf("watch: %v", err)
			return
		}
		n, err := strconv.Atoi(string(e.Entry.Value))
		before := counts[e.Entry.Key]
		if err != nil || n != before+1 || e.Entry.Revision <= revision || e.Prev == nil {
			t.Errorf("%q went from %d to %q at %d after %d", e.Entry.Key, before, e.Entry.Value, e.Entry.Revision, revision)
			return
		}
		if prev, err := strconv.Atoi(string(e.Prev.Value)); err != nil || prev != before {
			t.Errorf("%q: previous value %q, want %d", e.Entry.Key, e.Prev.Value, before)
			return
		}
		counts[e.Entry.Key], revision = n, e.Entry.Revision
	}
}
