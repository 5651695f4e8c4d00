// Package storetest is the suite that every store.Log passes, alone and under
// a Store, and a log with faults for the tests of those who stand above it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/control/store"
)

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

// Place opens the log that lives in one place: each call is the life of a
// process, and stop, which must be called before the next one, its end. Memory
// logs return the same log each time.
type Place func(t testing.TB) (log store.Log, stop func())

// TestLog runs the suite of logs. Each call of fresh makes an empty place.
func TestLog(t *testing.T, fresh func(t testing.TB) Place) {
	for name, test := range map[string]func(*testing.T, Place){
		"CompareAndSwap": testCompareAndSwap,
		"Replay":         testReplay,
		"Restart":        testRestart,
		"Keys":           testKeys,
		"BigValues":      testBigValues,
		"RacingOneKey":   testRacingOneKey,
		"RacingManyKeys": testRacingManyKeys,
		"Cancelled":      testCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func open(t testing.TB, place Place) store.Log {
	log, stop := place(t)
	t.Cleanup(stop)
	return log
}

func appendOK(t testing.TB, log store.Log, key, value string, deleted bool, expect uint64) uint64 {
	t.Helper()
	revision, err := log.Append(t.Context(), key, []byte(value), deleted, expect)
	if err != nil {
		t.Fatalf("append %q at %d: %v", key, expect, err)
	}
	return revision
}

func appendConflict(t testing.TB, log store.Log, key string, deleted bool, expect, last uint64) {
	t.Helper()
	revision, err := log.Append(t.Context(), key, []byte("loser"), deleted, expect)
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("append %q at %d: got %v, want a conflict", key, expect, err)
	}
	if revision != last && revision != 0 {
		t.Fatalf("append %q at %d: conflict with %d, want %d", key, expect, revision, last)
	}
}

func testCompareAndSwap(t *testing.T, place Place) {
	log := open(t, place)
	first := appendOK(t, log, "a/x", "1", false, 0)
	if first < 2 {
		t.Errorf("first revision is %d, want 2 or more", first)
	}
	appendConflict(t, log, "a/x", false, 0, first)
	appendConflict(t, log, "a/x", false, first+100, first)
	second := appendOK(t, log, "a/x", "2", false, first)
	if second <= first {
		t.Errorf("revisions %d, %d do not grow", first, second)
	}
	appendConflict(t, log, "a/x", false, first, second)
	appendConflict(t, log, "a/x", true, first, second)
	appendConflict(t, log, "a/x", true, 0, second)
	other := appendOK(t, log, "a/y", "1", false, 0)
	appendConflict(t, log, "a/z", false, other, 0)
	appendConflict(t, log, "a/z", true, other, 0)
	deleted := appendOK(t, log, "a/x", "2", true, second)
	if deleted <= other {
		t.Errorf("the deletion has revision %d, want more than %d", deleted, other)
	}
	appendConflict(t, log, "a/x", false, second, deleted)
	appendConflict(t, log, "a/x", true, second, deleted)
	again := appendOK(t, log, "a/x", "3", false, 0)
	appendConflict(t, log, "a/x", false, 0, again)
	appendOK(t, log, "a/x", "4", false, again)
}

// recorder follows a log.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed at each record
	records []store.Record
	last    uint64 // revision at ready
	loaded  int    // records before ready
	ready   chan struct{}
}

func follow(t testing.TB, log store.Log) *recorder {
	t.Helper()
	r := &recorder{changed: make(chan struct{}), ready: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Replay(ctx, r.caughtUp, r.apply) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Replay ended with %v", err)
		}
	})
	select {
	case <-r.ready:
	case err := <-ended:
		ended <- context.Canceled
		t.Fatalf("Replay ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("Replay does not become ready")
	}
	return r
}

func (r *recorder) caughtUp(last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.loaded = last, len(r.records)
	close(r.ready)
}

func (r *recorder) apply(record store.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
	close(r.changed)
	r.changed = make(chan struct{})
}

// wait returns all records once one with the revision is among them.
func (r *recorder) wait(t testing.TB, revision uint64) []store.Record {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		records, changed := r.records, r.changed
		r.mu.Unlock()
		if n := len(records); n > 0 && records[n-1].Revision >= revision {
			return records
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("revision %d does not arrive", revision)
		}
	}
}

// live is the state that records lead to.
func live(records []store.Record) map[string]string {
	state := map[string]string{}
	for _, r := range records {
		if r.Deleted {
			delete(state, r.Key)
		} else {
			state[r.Key] = string(r.Value)
		}
	}
	return state
}

func inOrder(t testing.TB, records []store.Record) {
	t.Helper()
	for i := 1; i < len(records); i++ {
		if records[i].Revision <= records[i-1].Revision {
			t.Fatalf("revision %d comes after %d", records[i].Revision, records[i-1].Revision)
		}
	}
}

func testReplay(t *testing.T, place Place) {
	log := open(t, place)
	before := appendOK(t, log, "before", "1", false, 0)
	gone := appendOK(t, log, "gone", "last words", false, 0)
	gone = appendOK(t, log, "gone", "last words", true, gone)
	r := follow(t, log)
	if r.last != gone {
		t.Errorf("ready at %d, want %d", r.last, gone)
	}
	if got := live(r.records); len(got) != 1 || got["before"] != "1" {
		t.Errorf("state at ready: %v", got)
	}
	second := appendOK(t, log, "before", "2", false, before)
	third := appendOK(t, log, "before", "2", true, second)
	records := r.wait(t, third)
	inOrder(t, records)
	after := records[r.loaded:]
	want := []store.Record{
		{Key: "before", Value: []byte("2"), Revision: second},
		{Key: "before", Value: []byte("2"), Revision: third, Deleted: true},
	}
	if fmt.Sprint(after) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", after, want)
	}
	if second := follow(t, log); second.last < third {
		t.Errorf("a second Replay is ready at %d, want %d or more", second.last, third)
	}
}

func testRestart(t *testing.T, place Place) {
	log, stop := place(t)
	state := map[string]string{}
	var last uint64
	for i := range 200 {
		key, value := fmt.Sprintf("k/%d", i%50), fmt.Sprint(i)
		var expect uint64
		if i >= 50 {
			expect = last - 49
		}
		last = appendOK(t, log, key, value, false, expect)
		state[key] = value
	}
	last = appendOK(t, log, "k/49", "199", true, last)
	delete(state, "k/49")
	stop()
	log = open(t, place)
	r := follow(t, log)
	if r.last != last {
		t.Errorf("ready at %d, want %d", r.last, last)
	}
	inOrder(t, r.records)
	if got := live(r.records); fmt.Sprint(got) != fmt.Sprint(state) {
		t.Errorf("state after restart: %v, want %v", got, state)
	}
	next := appendOK(t, log, "k/49", "back", false, 0)
	if next <= last {
		t.Errorf("revision %d after restart, want more than %d", next, last)
	}
	r.wait(t, next)
}

func testKeys(t *testing.T, place Place) {
	log := open(t, place)
	keys := []string{
		"plain", "apps/deployments/default/web", "a//b", "/", "a/", "_", "=", "=5F", "a.b/c*d/e>f/ g\th",
		"namen/grüße/世界", "x/$KV.wherry.y", "UPPER/lower-1", strings.Repeat("long/", 50), "nul\x00\xff",
	}
	want := map[string]string{}
	var last uint64
	for i, key := range keys {
		last = appendOK(t, log, key, fmt.Sprint(i), false, 0)
		want[key] = fmt.Sprint(i)
	}
	r := follow(t, log)
	if got := live(r.records); fmt.Sprint(got) != fmt.Sprint(want) || r.last != last {
		t.Errorf("got %q at %d, want %q at %d", got, r.last, want, last)
	}
}

func testBigValues(t *testing.T, place Place) {
	log := open(t, place)
	r := follow(t, log)
	noise := rand.NewChaCha8([32]byte{1})
	big := make([]byte, 3<<19) // 1.5 MiB
	if _, err := noise.Read(big); err != nil {
		t.Fatal(err)
	}
	first := appendOK(t, log, "big", string(big), false, 0)
	empty := appendOK(t, log, "empty", "", false, 0)
	deleted := appendOK(t, log, "big", string(big), true, first)
	for i, want := range []store.Record{
		{Value: big, Revision: first}, {Revision: empty}, {Value: big, Revision: deleted, Deleted: true},
	} {
		got := r.wait(t, deleted)[i]
		if string(got.Value) != string(want.Value) || got.Revision != want.Revision || got.Deleted != want.Deleted {
			t.Errorf("record %d: %d bytes at %d", i, len(got.Value), got.Revision)
		}
	}
}

// testRacingOneKey lets writers count on one key: no increment may get lost.
func testRacingOneKey(t *testing.T, place Place) {
	log := open(t, place)
	r := follow(t, log)
	const writers, each = 8, 15
	var wg sync.WaitGroup
	var mu sync.Mutex
	current := appendOK(t, log, "n", "0", false, 0)
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				mu.Lock()
				expect := current
				mu.Unlock()
				revision, err := log.Append(t.Context(), "n", nil, false, expect)
				switch {
				case err == nil:
					done++
					mu.Lock()
					current = max(current, revision)
					mu.Unlock()
				case errors.Is(err, store.ErrConflict):
					mu.Lock()
					current = max(current, revision)
					mu.Unlock()
				default:
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	records := r.wait(t, current)
	inOrder(t, records)
	if len(records) != writers*each+1 {
		t.Errorf("%d records, want %d", len(records), writers*each+1)
	}
}

func testRacingManyKeys(t *testing.T, place Place) {
	log := open(t, place)
	r := follow(t, log)
	const writers, each = 16, 30
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[uint64]string{}
	var last uint64
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprintf("w%d/%d", w, i)
				revision, err := log.Append(t.Context(), key, []byte(key), false, 0)
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				acked[revision], last = key, max(last, revision)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	records := r.wait(t, last)
	inOrder(t, records)
	if len(records) != writers*each || len(acked) != writers*each {
		t.Errorf("%d records, %d acknowledged, want %d", len(records), len(acked), writers*each)
	}
	for _, record := range records {
		if acked[record.Revision] != record.Key || string(record.Value) != record.Key {
			t.Errorf("%q at %d, acknowledged was %q", record.Key, record.Revision, acked[record.Revision])
		}
	}
}

func testCancelled(t *testing.T, place Place) {
	log := open(t, place)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Append(ctx, "k", nil, false, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("append: got %v", err)
	}
	if err := log.Replay(ctx, func(uint64) {}, func(store.Record) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("replay: got %v", err)
	}
}
