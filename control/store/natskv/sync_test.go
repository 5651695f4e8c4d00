package natskv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wherry.dev/wherry/control/store"
)

// TestGroupCommit: those who wait while a sync is running are served by the
// next one, all together, and never by the running one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, finish := make(chan struct{}), make(chan struct{})
		g := newGroup(func() error { begun <- struct{}{}; <-finish; return nil }, 10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.run(ctx) }()
		if err := g.wait(ctx, 10); err != nil {
			t.Errorf("what was durable before: %v", err)
		}
		var first, rest sync.WaitGroup
		served := make(chan uint64, 100)
		first.Go(func() { _ = g.wait(ctx, 11); served <- 11 })
		<-begun
		for revision := uint64(12); revision < 60; revision++ {
			rest.Go(func() { _ = g.wait(ctx, revision); served <- revision })
		}
		synctest.Wait()
		finish <- struct{}{}
		first.Wait()
		<-begun
		synctest.Wait()
		if len(served) != 1 {
			t.Errorf("one sync served %d writers that came after it began", len(served)-1)
		}
		finish <- struct{}{}
		rest.Wait()
		synctest.Wait()
		select {
		case <-begun:
			t.Error("a third sync for nobody")
		default:
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := g.wait(t.Context(), 100); !errors.Is(err, store.ErrClosed) {
			t.Errorf("wait after the end: %v", err)
		}
	})
}

// TestFailedSync: after a sync has failed nothing is acknowledged any more.
func TestFailedSync(t *testing.T) {
	broken := errors.New("disk on fire")
	calls := 0
	g := newGroup(func() error {
		if calls++; calls == 2 {
			return broken
		}
		return nil
	}, 0)
	ended := make(chan error, 1)
	go func() { ended <- g.run(t.Context()) }()
	if err := g.wait(t.Context(), 1); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := g.wait(t.Context(), 2); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("run ended with %v", err)
	}
	if err := g.wait(t.Context(), 1); err != nil {
		t.Errorf("what was durable before: %v", err)
	}
}

// TestBlocks: a sync finds the newest block and the ones that were replaced.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &blocks{dir: dir}
	if err := b.sync(); err != nil {
		t.Fatalf("no blocks yet: %v", err)
	}
	for _, name := range []string{"1.blk", "2.blk", "10.blk", "index.db", "x.blk"} {
		write(name, "1")
	}
	if err := b.sync(); err != nil || b.newest != "10.blk" || len(b.seen) != 3 {
		t.Errorf("newest %q of %d, %v", b.newest, len(b.seen), err)
	}
	before := b.seen["2.blk"]
	write("2.new", "22")
	if err := os.Rename(filepath.Join(dir, "2.new"), filepath.Join(dir, "2.blk")); err != nil {
		t.Fatal(err)
	}
	if err := b.sync(); err != nil || sameState(before, b.seen["2.blk"]) {
		t.Errorf("the replaced block was not looked at again (%v)", err)
	}
	if err := os.Remove(filepath.Join(dir, "10.blk")); err != nil {
		t.Fatal(err)
	}
	if err := b.sync(); err != nil || b.newest != "2.blk" {
		t.Errorf("newest %q, %v", b.newest, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := b.sync(); err == nil {
		t.Error("synced a directory that is gone")
	}
}

// TestSyncLater: a sync that found no room is tried again; who cannot wait is
// told why.
func TestSyncLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := true
		g := newGroup(func() error {
			if full {
				return fmt.Errorf("link: %w", errNoRoom)
			}
			return nil
		}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.run(ctx) }()
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		if err := g.wait(short, 1); !errors.Is(err, store.ErrNoSpace) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("on a full disk: %v", err)
		}
		synctest.Wait()
		full = false
		if err := g.wait(ctx, 1); err != nil {
			t.Errorf("with space again: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestSyncUnasked: there is a sync now and then although nobody writes.
func TestSyncUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		syncs := 0
		g := newGroup(func() error { syncs++; return nil }, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*settleEvery+time.Second)
		defer cancel()
		ended := make(chan error, 2)
		go func() { ended <- g.run(ctx) }()
		go func() { ended <- g.every(ctx, settleEvery) }()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
		if syncs != 10 {
			t.Errorf("%d syncs", syncs)
		}
	})
}
