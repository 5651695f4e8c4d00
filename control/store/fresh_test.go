package store_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"wherry.dev/wherry/control/store"
)

// held is a log that another process writes and that tells late.
type held struct {
	*store.Memory
	mu     sync.Mutex
	gate   chan struct{} // records pass when it is closed
	answer chan struct{} // questions are answered when it is closed
	asked  int
}

func (h *held) Replay(ctx context.Context, ready func(uint64), apply func(store.Record)) error {
	started := false
	return h.Memory.Replay(ctx, func(last uint64) { ready(last); started = true }, func(r store.Record) {
		if started {
			h.mu.Lock()
			gate := h.gate
			h.mu.Unlock()
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		apply(r)
	})
}

func (h *held) Last(ctx context.Context) (uint64, error) {
	h.mu.Lock()
	h.asked++
	h.mu.Unlock()
	<-h.answer
	return h.Memory.Last(ctx)
}

func runShared(t *testing.T, log store.Log) *store.Store {
	t.Helper()
	s := store.New(log, store.Options{Shared: true})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("store: %v", err)
		}
	})
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// A store that is behind waits, when it is asked to, for what another one has
// been answered; many who ask at once ask the log twice at most: the question
// on its way may be older than they are.
func TestFreshWaitsForOtherWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		late := &held{Memory: memory, gate: make(chan struct{}), answer: make(chan struct{})}
		writer, reader := runShared(t, memory), runShared(t, late)
		if _, err := writer.Put(t.Context(), "k", []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.Get(t.Context(), "k"); err == nil {
			t.Fatal("the reader is not behind: the test shows nothing")
		}
		const n = 50
		fresh := make(chan error, n)
		for range n {
			go func() { fresh <- reader.Fresh(t.Context()) }()
		}
		synctest.Wait()
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := reader.Fresh(canceled); err != context.Canceled {
			t.Errorf("canceled: %v", err)
		}
		close(late.answer)
		synctest.Wait()
		select {
		case err := <-fresh:
			t.Fatalf("fresh before the record was there: %v", err)
		default:
		}
		close(late.gate)
		for range n {
			if err := <-fresh; err != nil {
				t.Error(err)
			}
		}
		if e, err := reader.Get(t.Context(), "k"); err != nil || string(e.Value) != "v" {
			t.Errorf("after Fresh: %v, %v", e, err)
		}
		if late.asked > 2 {
			t.Errorf("asked %d times for %d callers", late.asked, n)
		}
	})
}
