package store_test

import (
	"context"
	"errors"
	"testing"

	"wherry.dev/wherry/control/store"
)

func TestSmoke(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := store.New(store.NewMemory(), store.Options{})
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch("a/", 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Put(ctx, "a/x", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "a/x", []byte("1"), 0); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "a/x", []byte("2"), e.Revision); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1", "2"} {
		ev, err := w.Next(ctx)
		if err != nil || string(ev.Entry.Value) != want {
			t.Fatal(ev, err)
		}
	}
	p, err := s.List(ctx, "a/", store.ListOptions{Revision: e.Revision})
	if err != nil || len(p.Entries) != 1 || p.Entries[0] != e {
		t.Fatal(p, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
