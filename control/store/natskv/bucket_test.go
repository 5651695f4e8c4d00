package natskv

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

// testLog shows what a healthy bucket must not say.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// run opens a bucket and returns what ends it.
func run(t testing.TB, cfg Config) (*Bucket, func()) {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b, runOpen(t, b)
}

// runOpen runs a bucket and returns what ends it.
func runOpen(t testing.TB, b *Bucket) func() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func place(t testing.TB) storetest.Place {
	dir := t.TempDir()
	return func(t testing.TB) (store.Log, func()) { return run(t, Config{Dir: dir, Log: testLog(t)}) }
}

func TestEmbeddedLog(t *testing.T) { storetest.TestLog(t, place) }

func TestStoreOverEmbedded(t *testing.T) { storetest.TestStore(t, place) }

func TestStoreOverFaultyEmbedded(t *testing.T) {
	storetest.TestStore(t, func(t testing.TB) storetest.Place {
		healthy := place(t)
		return func(t testing.TB) (store.Log, func()) {
			log, stop := healthy(t)
			return storetest.WithFaults(log, storetest.Chaos(2)), stop
		}
	})
}

// TestQuiet: a healthy run says nothing above Debug.
func TestQuiet(t *testing.T) {
	var said bytes.Buffer
	cfg := Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	for range 2 {
		s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) { return run(t, cfg) }, store.Options{})
		e, err := s.Put(t.Context(), "k", nil, 0)
		if err == nil {
			_, err = s.Delete(t.Context(), "k", e.Revision)
		}
		if err != nil {
			t.Error(err)
		}
		stop()
	}
	if said.Len() > 0 {
		t.Errorf("it said:\n%s", said.String())
	}
}

// TestUnsyncedForgetsLinks: what changes without syncs must never be replaced
// by what was kept before.
func TestUnsyncedForgetsLinks(t *testing.T) {
	dir := t.TempDir()
	for _, unsynced := range []bool{false, true, false} {
		b, stop := run(t, Config{Dir: dir, Unsynced: unsynced, Log: testLog(t)})
		_, err := os.Stat(filepath.Join(b.embedded.kept(), keptList))
		if kept := err == nil; kept == unsynced {
			t.Errorf("unsynced %t, links kept %t (%v)", unsynced, kept, err)
		}
		stop()
	}
}
