package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

func TestMemo(t *testing.T) {
	e := &store.Entry{Key: "k", Value: []byte("v")}
	refused := errors.New("refused")
	if _, err := e.Memo(1, func(*store.Entry) (any, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	calls := 0
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			got, err := e.Memo(1, func(e *store.Entry) (any, error) { calls++; return string(e.Value) + "!", nil })
			if got != "v!" || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if calls != 1 {
		t.Errorf("decoded %d times", calls)
	}
}

// start runs a store on a log in a synctest bubble.
func start(t *testing.T, log store.Log) *store.Store {
	t.Helper()
	s := store.New(log, store.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestStalledFeed: a write that is in the log but has not come back is not
// answered; it is when it comes back, and a caller that gives up is told.
func TestStalledFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := start(t, storetest.WithFaults(store.NewMemory(), storetest.Faults{
			Apply: func(r store.Record, apply func(store.Record)) { <-gate; apply(r) },
		}))
		answered := make(chan error, 2)
		impatient, giveUp := context.WithCancel(t.Context())
		go func() { _, err := s.Put(t.Context(), "a", nil, 0); answered <- err }()
		synctest.Wait()
		go func() { _, err := s.Put(impatient, "b", nil, 0); answered <- err }()
		synctest.Wait()
		if len(answered) > 0 {
			t.Fatal("a write was answered before it was visible")
		}
		if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("visible before it came back: %v", err)
		}
		giveUp()
		if err := <-answered; !errors.Is(err, context.Canceled) {
			t.Errorf("impatient writer: %v", err)
		}
		close(gate)
		if err := <-answered; err != nil {
			t.Errorf("patient writer: %v", err)
		}
		synctest.Wait()
		if _, err := s.Get(t.Context(), "b"); err != nil {
			t.Errorf("the write that nobody waited for: %v", err)
		}
	})
}

// TestConflictWaitsForWinner: a loser that reads after its conflict sees the
// winner, and so does not try the same again.
func TestConflictWaitsForWinner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		log := store.NewMemory()
		s := start(t, storetest.WithFaults(log, storetest.Faults{
			Apply: func(r store.Record, apply func(store.Record)) { <-gate; apply(r) },
		}))
		if err := s.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		winner, err := log.Append(t.Context(), "k", []byte("winner"), false, 0)
		if err != nil {
			t.Fatal(err)
		}
		lost := make(chan error, 1)
		go func() { _, err := s.Put(t.Context(), "k", nil, 0); lost <- err }()
		synctest.Wait()
		if len(lost) > 0 {
			t.Fatal("the loser was told before it can see why")
		}
		close(gate)
		if err := <-lost; !errors.Is(err, store.ErrConflict) {
			t.Errorf("got %v", err)
		}
		if e, err := s.Get(t.Context(), "k"); err != nil || e.Revision != winner {
			t.Errorf("got %v, %v", e, err)
		}
	})
}

// TestBrokenLog: a log that breaks ends the store with an error.
func TestBrokenLog(t *testing.T) {
	s := store.New(brokenLog{}, store.Options{})
	if err := s.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Watch("k", 0); err == nil {
		t.Error("watch of a store that never was ready")
	}
}

var errBroken = errors.New("broken")

type brokenLog struct{ store.Log }

func (brokenLog) Replay(context.Context, func(uint64), func(store.Record)) error { return errBroken }

// TestStoppedWatchers: watchers come and go on the same prefixes while others
// stay, and each sees its own keys only.
func TestStoppedWatchers(t *testing.T) {
	s, _ := storetest.Start(t, memoryPlace(t), store.Options{})
	begin := s.Revision()
	for round := range 20 {
		prefix := fmt.Sprintf("p%d/", round%3)
		now, err := s.Watch(prefix, 0)
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Put(t.Context(), fmt.Sprintf("%s%d", prefix, round), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := now.Next(t.Context()); err != nil || got.Entry != e {
			t.Errorf("round %d: %+v, %v", round, got, err)
		}
		past, err := s.Watch(prefix, begin)
		if err != nil {
			t.Fatal(err)
		}
		for i := round % 3; i <= round; i += 3 {
			want := fmt.Sprintf("%s%d", prefix, i)
			if got, err := past.Next(t.Context()); err != nil || got.Entry.Key != want {
				t.Errorf("round %d: got %+v, %v, want %q", round, got, err, want)
			}
		}
		now.Stop()
		now.Stop()
		past.Stop()
	}
}

// TestSupersededIsForgotten: what a decoded object takes is held for the live
// state and the newest changes only.
func TestSupersededIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, store.NewMemory())
		decoded := map[uint64]int{}
		read := func(e *store.Entry) {
			if _, err := e.Memo(1, func(e *store.Entry) (any, error) { decoded[e.Revision]++; return e.Key, nil }); err != nil {
				t.Fatal(err)
			}
		}
		var entries []*store.Entry
		for range 1100 {
			revision := uint64(0)
			if n := len(entries); n > 0 {
				revision = entries[n-1].Revision
			}
			e, err := s.Put(t.Context(), "k", []byte("v"), revision)
			if err != nil {
				t.Fatal(err)
			}
			read(e)
			entries = append(entries, e)
		}
		for _, e := range entries {
			read(e)
		}
		first, recent, live := entries[0].Revision, entries[len(entries)-500].Revision, entries[len(entries)-1].Revision
		if decoded[first] != 2 || decoded[recent] != 1 || decoded[live] != 1 {
			t.Errorf("decoded %d times long ago, %d times of late, %d times as it is", decoded[first], decoded[recent], decoded[live])
		}
	})
}
