package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"wherry.dev/wherry/control/store"
)

// TestStore runs the suite of a Store over a kind of log, which may have the
// faults of Chaos.
func TestStore(t *testing.T, fresh func(t testing.TB) Place) {
	for name, test := range map[string]func(*testing.T, Place){
		"ReadYourWrites": testReadYourWrites,
		"Model":          testModel,
		"RacingWriters":  testRacingWriters,
		"SlowWatcher":    testSlowWatcher,
		"PagedList":      testPagedList,
		"Reopened":       testReopened,
		"Ended":          testEnded,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

// Start runs a store over the log of a place until stop is called, or the test
// ends.
func Start(t testing.TB, place Place, opts store.Options) (s *store.Store, stop func()) {
	t.Helper()
	log, closeLog := place(t)
	s = store.New(log, opts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("store ended: %v", err)
		}
		closeLog()
	}
	t.Cleanup(stop)
	ready, cancelReady := context.WithTimeout(t.Context(), patience)
	defer cancelReady()
	if err := s.WaitReady(ready); err != nil {
		t.Fatalf("store does not become ready: %v", err)
	}
	return s, stop
}

// put writes, and finds out what became of a write whose acknowledgement was
// lost, as users of a store do: by reading, after a conflict has made sure
// that there is something to read.
func put(ctx context.Context, s *store.Store, key, value string, expect uint64) (*store.Entry, error) {
	e, err := s.Put(ctx, key, []byte(value), expect)
	if !errors.Is(err, ErrLostAck) {
		return e, err
	}
	for {
		e, err := s.Get(ctx, key)
		if err == nil && e.Revision > expect {
			if string(e.Value) == value {
				return e, nil
			}
			return nil, store.ErrConflict
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		runtime.Gosched()
	}
}

// remove deletes, as put puts. The returned entry is nil when the
// acknowledgement was lost.
func remove(ctx context.Context, s *store.Store, key string, expect uint64) (*store.Entry, error) {
	e, err := s.Delete(ctx, key, expect)
	if !errors.Is(err, ErrLostAck) {
		return e, err
	}
	for {
		if _, err := s.Get(ctx, key); errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		runtime.Gosched()
	}
}

func mustPut(t testing.TB, s *store.Store, key, value string, expect uint64) *store.Entry {
	t.Helper()
	e, err := put(t.Context(), s, key, value, expect)
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	if e.Key != key || string(e.Value) != value || e.Revision <= expect {
		t.Fatalf("put %q %q gave %q %q at %d", key, value, e.Key, e.Value, e.Revision)
	}
	return e
}

func mustWatch(t testing.TB, s *store.Store, prefix string, from uint64) *store.Watcher {
	t.Helper()
	w, err := s.Watch(prefix, from)
	if err != nil {
		t.Fatalf("watch %q from %d: %v", prefix, from, err)
	}
	t.Cleanup(w.Stop)
	return w
}

func mustNext(t testing.TB, w *store.Watcher) store.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := w.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return e
}

// idle fails when the watcher has an event.
func idle(t testing.TB, w *store.Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("unexpected event %+v, %v", e, err)
	}
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func testReadYourWrites(t *testing.T, place Place) {
	ctx := t.Context()
	s, _ := Start(t, place, store.Options{})
	if s.Revision() == 0 {
		t.Error("the empty store is at revision 0, which means any revision")
	}
	_, err := s.Get(ctx, "a/x")
	wantErr(t, "get", err, store.ErrNotFound)
	_, err = s.Delete(ctx, "a/x", 1)
	wantErr(t, "delete", err, store.ErrNotFound)
	_, err = s.Put(ctx, "", nil, 0)
	if err == nil {
		t.Error("an empty key was accepted")
	}
	first := mustPut(t, s, "a/x", "1", 0)
	_, err = put(ctx, s, "a/x", "other", 0)
	wantErr(t, "create again", err, store.ErrConflict)
	second := mustPut(t, s, "a/x", "2", first.Revision)
	got, err := s.Get(ctx, "a/x")
	if err != nil || got.Revision != second.Revision || s.Revision() < second.Revision {
		t.Errorf("get: %+v, %v", got, err)
	}
	_, err = put(ctx, s, "a/x", "3", first.Revision)
	wantErr(t, "put at an old revision", err, store.ErrConflict)
	_, err = s.Delete(ctx, "a/x", first.Revision)
	wantErr(t, "delete at an old revision", err, store.ErrConflict)
	w := mustWatch(t, s, "a/", 0)
	deleted, err := remove(ctx, s, "a/x", second.Revision)
	if err != nil || deleted != nil && (string(deleted.Value) != "2" || deleted.Revision <= second.Revision) {
		t.Errorf("delete: %+v, %v", deleted, err)
	}
	event := mustNext(t, w)
	if !event.Deleted || event.Prev == nil || event.Prev.Revision != second.Revision ||
		event.Entry.Revision <= second.Revision || string(event.Entry.Value) != "2" {
		t.Errorf("deletion: %+v", event)
	}
	_, err = s.Get(ctx, "a/x")
	wantErr(t, "get after delete", err, store.ErrNotFound)
	_, err = put(ctx, s, "a/x", "3", event.Entry.Revision)
	wantErr(t, "put at the revision of the deletion", err, store.ErrConflict)
	mustPut(t, s, "a/x", "4", 0)
	if event = mustNext(t, w); event.Prev != nil || event.Deleted {
		t.Errorf("creation after deletion: %+v", event)
	}
	if err := s.WaitRevision(ctx, s.Revision()); err != nil {
		t.Errorf("wait for the present: %v", err)
	}
}

func testPagedList(t *testing.T, place Place) {
	ctx := t.Context()
	s, _ := Start(t, place, store.Options{})
	for i := range 25 {
		mustPut(t, s, fmt.Sprintf("p/%02d", i), "old", 0)
	}
	mustPut(t, s, "p", "outside", 0)
	mustPut(t, s, "p0", "outside", 0)
	start := s.Revision()
	page, err := s.List(ctx, "p/", store.ListOptions{Limit: 10})
	if err != nil || len(page.Entries) != 10 || !page.More || page.Remaining != 15 || page.Revision != start {
		t.Fatalf("first page: %+v, %v", page, err)
	}
	for _, e := range page.Entries[5:] {
		mustPut(t, s, e.Key, "new", e.Revision)
	}
	mustPut(t, s, "p/11a", "new", 0)
	last, err := s.Get(ctx, "p/24")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remove(ctx, s, "p/24", last.Revision); err != nil {
		t.Fatal(err)
	}
	entries := page.Entries
	for page.More {
		after := page.Entries[len(page.Entries)-1].Key
		page, err = s.List(ctx, "p/", store.ListOptions{Limit: 10, After: after, Revision: page.Revision})
		if err != nil || page.Revision != start {
			t.Fatalf("page after %q: %+v, %v", after, page, err)
		}
		entries = append(entries, page.Entries...)
	}
	if len(entries) != 25 || page.Remaining != 0 {
		t.Errorf("%d entries, %d remain", len(entries), page.Remaining)
	}
	for i, e := range entries {
		if e.Key != fmt.Sprintf("p/%02d", i) || string(e.Value) != "old" {
			t.Errorf("entry %d: %q %q", i, e.Key, e.Value)
		}
	}
	_, err = s.List(ctx, "p/", store.ListOptions{Revision: s.Revision() + 1})
	wantErr(t, "list the future", err, store.ErrFutureRevision)
	_, err = s.Watch("p/", s.Revision()+1)
	wantErr(t, "watch the future", err, store.ErrFutureRevision)
}

func testSlowWatcher(t *testing.T, place Place) {
	ctx := t.Context()
	s, _ := Start(t, place, store.Options{HistoryBytes: 8 << 10})
	start := s.Revision()
	slow, other := mustWatch(t, s, "a/", 0), mustWatch(t, s, "b/", 0)
	e := mustPut(t, s, "a/x", "0", 0)
	value := string(make([]byte, 1000))
	for range 20 {
		e = mustPut(t, s, "a/x", value, e.Revision)
	}
	if _, err := slow.Next(ctx); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("slow watcher: %v", err)
	}
	_, err := s.Watch("a/", start)
	wantErr(t, "watch from long ago", err, store.ErrCompacted)
	_, err = s.List(ctx, "a/", store.ListOptions{Revision: start})
	wantErr(t, "list of long ago", err, store.ErrCompacted)
	// A watcher of other keys has missed nothing, however long ago it began.
	idle(t, other)
	if got := other.Progress(); got != s.Revision() {
		t.Errorf("progress of a quiet watcher: %d, want %d", got, s.Revision())
	}
	want := mustPut(t, s, "b/x", "1", 0)
	if got := mustNext(t, other); got.Entry.Revision != want.Revision {
		t.Errorf("quiet watcher: got revision %d, want %d", got.Entry.Revision, want.Revision)
	}
	if _, err := s.List(ctx, "a/", store.ListOptions{Revision: s.Compacted()}); err != nil {
		t.Errorf("list at the oldest revision: %v", err)
	}
	mustWatch(t, s, "a/", s.Compacted())
}

func testReopened(t *testing.T, place Place) {
	s, stop := Start(t, place, store.Options{})
	for i := range 30 {
		mustPut(t, s, fmt.Sprintf("k/%02d", i), fmt.Sprint(i), 0)
	}
	gone := mustPut(t, s, "k/gone", "x", 0)
	if _, err := remove(t.Context(), s, "k/gone", gone.Revision); err != nil {
		t.Fatal(err)
	}
	before, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = Start(t, place, store.Options{})
	after, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil || after.Revision != before.Revision || len(after.Entries) != 30 {
		t.Fatalf("after restart: %d entries at %d, want 30 at %d (%v)",
			len(after.Entries), after.Revision, before.Revision, err)
	}
	for i, e := range after.Entries {
		if b := before.Entries[i]; b.Key != e.Key || b.Revision != e.Revision || string(b.Value) != string(e.Value) {
			t.Errorf("entry %d: %q at %d, want %q at %d", i, e.Key, e.Revision, b.Key, b.Revision)
		}
	}
	_, err = s.Watch("k/", before.Entries[0].Revision)
	wantErr(t, "watch from before the restart", err, store.ErrCompacted)
	w := mustWatch(t, s, "k/", before.Revision)
	e := mustPut(t, s, "k/00", "new", after.Entries[0].Revision)
	if got := mustNext(t, w); got.Entry.Revision != e.Revision || got.Prev == nil || string(got.Prev.Value) != "0" {
		t.Errorf("first event after restart: %+v", got)
	}
}

func testEnded(t *testing.T, place Place) {
	s, stop := Start(t, place, store.Options{})
	w := mustWatch(t, s, "k", 0)
	e := mustPut(t, s, "k", "v", 0)
	waiting := make(chan error)
	go func() { waiting <- s.WaitRevision(t.Context(), e.Revision+100) }()
	stop()
	select {
	case err := <-waiting:
		wantErr(t, "wait for the future", err, store.ErrClosed)
	case <-time.After(patience):
		t.Fatal("still waiting for a revision of a closed store")
	}
	if got := mustNext(t, w); got.Entry.Revision != e.Revision {
		t.Errorf("event before the end: %+v", got)
	}
	_, err := w.Next(t.Context())
	wantErr(t, "next", err, store.ErrClosed)
}
