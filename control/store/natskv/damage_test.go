package natskv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

// fill writes some keys to a new bucket, closes it, and returns the paths that
// a test can damage.
func fill(t *testing.T, dir string) (messages, kept string) {
	t.Helper()
	var b *Bucket
	s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) {
		var end func()
		b, end = run(t, Config{Dir: dir, Log: testLog(t)})
		return b, end
	}, store.Options{})
	for i := range 50 {
		if _, err := s.Put(t.Context(), fmt.Sprint("key/", i), make([]byte, 1000), 0); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	return b.embedded.messages(), b.embedded.kept()
}

// newestBlock returns the path of the block that the server appends to.
func newestBlock(t *testing.T, messages string) string {
	t.Helper()
	found, err := (&blocks{dir: messages}).scan()
	if err != nil {
		t.Fatal(err)
	}
	newest, newestIndex := "", -1
	for name := range found {
		if index, _ := blockIndex(name); index > newestIndex {
			newest, newestIndex = name, index
		}
	}
	return filepath.Join(messages, newest)
}

// scribble overwrites the part of a file between two fractions of its size.
func scribble(t *testing.T, path string, from, to float64) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start, end := int(from*float64(len(content))), int(to*float64(len(content)))
	garbage := make([]byte, end-start)
	for i := range garbage {
		garbage[i] = 0xA5 ^ byte(i*7)
	}
	if _, err := f.WriteAt(garbage, int64(start)); err != nil {
		t.Fatal(err)
	}
}

// TestDamage: a store that has lost acknowledged writes does not start as if
// nothing had happened, however often it is tried, until somebody says so.
func TestDamage(t *testing.T) {
	remove := func(t *testing.T, paths ...string) {
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name  string
		found string // where the error says that the store ends
		harm  func(t *testing.T, dir, messages, kept string)
	}{
		{"block cut in half", "ends at revision", func(t *testing.T, _, messages, _ string) {
			block := newestBlock(t, messages)
			info, err := os.Stat(block)
			if err == nil {
				err = os.Truncate(block, info.Size()/2)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"block emptied", "ends at revision 1,", func(t *testing.T, _, messages, _ string) {
			if err := os.Truncate(newestBlock(t, messages), 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"garbage at the end", "ends at revision", func(t *testing.T, _, messages, _ string) {
			scribble(t, newestBlock(t, messages), 0.5, 1)
		}},
		{"garbage in the middle", "ends at revision", func(t *testing.T, _, messages, _ string) {
			scribble(t, newestBlock(t, messages), 0.5, 0.51)
		}},
		{"garbage in a value", "ends at revision", func(t *testing.T, _, messages, _ string) {
			scribble(t, newestBlock(t, messages), 0.505, 0.5052)
		}},
		{"garbage without an index", "ends at revision 1,", func(t *testing.T, _, messages, _ string) {
			scribble(t, newestBlock(t, messages), 0, 1)
			remove(t, filepath.Join(messages, "index.db"))
		}},
		{"block and links missing", "ends at revision 1,", func(t *testing.T, _, messages, kept string) {
			remove(t, newestBlock(t, messages), kept)
		}},
		{"messages missing", "is empty", func(t *testing.T, _, messages, _ string) { remove(t, messages) }},
		{"all but the links missing", "is empty", func(t *testing.T, dir, _, _ string) {
			remove(t, filepath.Join(dir, "jetstream"))
		}},
		{"stream's description missing", "is empty", func(t *testing.T, _, messages, _ string) {
			remove(t, filepath.Join(filepath.Dir(messages), "meta.inf"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			messages, kept := fill(t, dir)
			test.harm(t, dir, messages, kept)
			for range 2 {
				b, err := Open(t.Context(), Config{Dir: dir})
				if err == nil {
					runOpen(t, b)()
					t.Fatal("it started")
				}
				for _, part := range []string{dir, test.found, "revision 51 had", "Restore", "move", kept + ".mark"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error does not say %q: %v", part, err)
					}
				}
			}
			if err := os.Remove(kept + ".mark"); err != nil {
				t.Fatal(err)
			}
			s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) { return run(t, Config{Dir: dir}) }, store.Options{})
			if _, err := s.Put(t.Context(), "after", nil, 0); err != nil {
				t.Errorf("go on with what is left: %v", err)
			}
			stop()
		})
	}
}

// TestMissingBlockComesBack: a block that only lost its name is put back.
func TestMissingBlockComesBack(t *testing.T) {
	dir := t.TempDir()
	messages, _ := fill(t, dir)
	if err := os.Remove(newestBlock(t, messages)); err != nil {
		t.Fatal(err)
	}
	s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) { return run(t, Config{Dir: dir}) }, store.Options{})
	defer stop()
	page, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil || len(page.Entries) != 50 {
		t.Errorf("%d keys are left, %v", len(page.Entries), err)
	}
}

// TestDamagedMark: what cannot be read is no reason to forget.
func TestDamagedMark(t *testing.T) {
	dir := t.TempDir()
	_, kept := fill(t, dir)
	if err := os.WriteFile(kept+".mark", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "remove "+kept+".mark") {
		t.Error(err)
	}
}

// TestUnsyncedDropsMark: who allows losses is not refused because of them.
func TestUnsyncedDropsMark(t *testing.T) {
	dir := t.TempDir()
	messages, _ := fill(t, dir)
	if err := os.RemoveAll(messages); err != nil {
		t.Fatal(err)
	}
	for _, unsynced := range []bool{true, false} {
		_, stop := run(t, Config{Dir: dir, Unsynced: unsynced})
		stop()
	}
}

// TestMarkFollows: the mark goes up, never down, and only when asked.
func TestMarkFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep", "stream.mark")
	m, err := openMark(path, "store", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ set, want uint64 }{{0, 0}, {5, 5}, {4, 5}, {7, 7}} {
		m.set(step.set)
		again, err := openMark(path, "store", testLog(t))
		if err != nil || again.revision != step.want {
			t.Errorf("after %d: %d, %v, want %d", step.set, again.revision, err, step.want)
		}
	}
	if m.check(7) != nil || m.check(6) == nil {
		t.Error("it compares wrongly")
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := m.follow(ctx, 1, func() uint64 { cancel(); return 9 }); err != nil || m.revision != 9 {
		t.Errorf("it followed to %d: %v", m.revision, err)
	}
}

// fillBlocks writes several blocks and returns the path of the oldest.
func fillBlocks(t *testing.T, dir string) string {
	t.Helper()
	var b *Bucket
	s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) {
		var end func()
		b, end = run(t, Config{Dir: dir, Log: testLog(t)})
		return b, end
	}, store.Options{})
	for i := range 24 {
		if _, err := s.Put(t.Context(), fmt.Sprint("key/", i), make([]byte, 1<<20), 0); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	found, err := (&blocks{dir: b.embedded.messages()}).scan()
	if err != nil || len(found) < 2 {
		t.Fatal(len(found), "blocks", err)
	}
	oldest, oldestIndex := "", 1<<30
	for name := range found {
		if index, _ := blockIndex(name); index < oldestIndex {
			oldest, oldestIndex = name, index
		}
	}
	return filepath.Join(b.embedded.messages(), oldest)
}

// TestDamagedOldBlock: what is lost in the middle is noticed as well.
func TestDamagedOldBlock(t *testing.T) {
	dir := t.TempDir()
	scribble(t, fillBlocks(t, dir), 0.4, 0.6)
	for range 2 {
		b, err := Open(t.Context(), Config{Dir: dir})
		if err == nil {
			runOpen(t, b)()
			t.Fatal("it started")
		}
		if !strings.Contains(err.Error(), "in the middle") || !strings.Contains(err.Error(), "Restore") {
			t.Error(err)
		}
	}
}

// TestLoadObeysContext: a load ends with the context that it has.
func TestLoadObeysContext(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir)
	b, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer runOpen(t, b)()
	ctx, cancel := context.WithCancel(t.Context())
	// The first record comes while the load is under way.
	err = b.Replay(ctx, func(last uint64) { t.Error("ready at", last) }, func(store.Record) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
