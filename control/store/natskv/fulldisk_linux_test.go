package natskv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

const mib = 1 << 20

// fillUp writes until a write fails, and returns what was acknowledged.
func fillUp(t *testing.T, s *store.Store) (entries []*store.Entry, err error) {
	t.Helper()
	for i := range 1000 {
		e, err := s.Put(t.Context(), fmt.Sprint("fill/", i), make([]byte, 100_000), 0)
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
	t.Fatal("the disk does not get full")
	return nil, nil
}

func check(t *testing.T, s *store.Store, entries []*store.Entry) {
	t.Helper()
	for _, want := range entries {
		got, err := s.Get(t.Context(), want.Key)
		if err != nil || got.Revision != want.Revision || len(got.Value) != len(want.Value) {
			t.Errorf("get %q: %v", want.Key, err)
		}
	}
}

// TestFullDisk: writes are refused while there is little space, deletes go on,
// writes work again when there is space, and nothing is lost.
func TestFullDisk(t *testing.T) {
	disk, _, dir := mount(t, nil, 8*mib)
	at := func(t testing.TB) (store.Log, func()) {
		return run(t, Config{Dir: filepath.Join(dir, "store"), MinFree: 4 * mib, Log: testLog(t)})
	}
	s, stop := storetest.Start(t, at, store.Options{})
	entries, err := fillUp(t, s)
	if !errors.Is(err, store.ErrNoSpace) || len(entries) == 0 {
		t.Fatalf("after %d writes: %v", len(entries), err)
	}
	last := entries[len(entries)-1]
	if _, err := s.Delete(t.Context(), last.Key, last.Revision); err != nil {
		t.Errorf("delete on a full disk: %v", err)
	}
	entries = entries[:len(entries)-1]
	disk.grow(32 * mib)
	e, err := s.Put(t.Context(), "after", nil, 0)
	if err != nil {
		t.Fatalf("write when there is space again: %v", err)
	}
	entries = append(entries, e)
	stop()
	s, _ = storetest.Start(t, at, store.Options{})
	check(t, s, entries)
}

// TestQuota: the disk is full although it says that it is not. The server
// stops writing for good, so it is replaced.
func TestQuota(t *testing.T) {
	disk, _, dir := mount(t, nil, 2*mib)
	disk.quota = true
	at := func(t testing.TB) (store.Log, func()) {
		return run(t, Config{Dir: filepath.Join(dir, "store"), WriteTimeout: 2 * time.Second, Log: testLog(t)})
	}
	s, stop := storetest.Start(t, at, store.Options{})
	entries, err := fillUp(t, s)
	if !errors.Is(err, store.ErrNoSpace) || len(entries) == 0 {
		t.Fatalf("after %d writes: %v", len(entries), err)
	}
	disk.grow(64 * mib)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		e, err := s.Put(ctx, "after", nil, 0)
		if errors.Is(err, store.ErrConflict) {
			// One that failed before has arrived nevertheless.
			e, err = s.Get(ctx, "after")
		}
		if err == nil {
			entries = append(entries, e)
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the store does not write again: %v", err)
		}
	}
	stop()
	s, _ = storetest.Start(t, at, store.Options{})
	check(t, s, entries)
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	_, stop := run(t, Config{Dir: dir})
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("two buckets on one directory")
	} else {
		t.Log(err)
	}
	stop()
	_, stop = run(t, Config{Dir: dir})
	stop()
}
