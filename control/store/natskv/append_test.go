package natskv

import (
	"bytes"
	"errors"
	"testing"

	"wherry.dev/wherry/control/store"
)

// unsure returns a write as it is after a copy may have arrived without an
// answer.
func (b *Bucket) unsure(t testing.TB, key, id string, expect, after uint64) *write {
	t.Helper()
	subject, err := b.cfg.subject(key)
	if err != nil {
		t.Fatal(err)
	}
	return &write{b: b, id: id, subject: subject, value: []byte(id), expect: expect, after: after, unsure: true, unsureAfter: after}
}

// TestUnsureWrite plays what follows on a write that got no answer.
func TestUnsureWrite(t *testing.T) {
	b, stop := run(t, Config{Dir: t.TempDir()})
	defer stop()
	ctx := t.Context()
	appendTo := func(key, value string, deleted bool, expect uint64) uint64 {
		t.Helper()
		revision, err := b.Append(ctx, key, []byte(value), deleted, expect)
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	t.Run("never arrived", func(t *testing.T) {
		first := appendTo("a", "1", false, 0)
		if got, err := b.unsure(t, "a", "id-a", first, first).send(ctx); err != nil || got <= first {
			t.Errorf("got %d, %v", got, err)
		}
	})
	t.Run("arrived", func(t *testing.T) {
		w := b.unsure(t, "b", "id-b", 0, 0)
		first, err := w.publish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.send(ctx); err != nil || got != first {
			t.Errorf("got %d, %v, want %d", got, err, first)
		}
	})
	t.Run("arrived and was overwritten", func(t *testing.T) {
		w := b.unsure(t, "c", "id-c", 0, 0)
		first, err := w.publish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		appendTo("c", "2", false, first)
		if got, err := w.send(ctx); err != nil || got != first {
			t.Errorf("got %d, %v, want %d", got, err, first)
		}
	})
	t.Run("lost against another", func(t *testing.T) {
		first := appendTo("d", "1", false, 0)
		second := appendTo("d", "2", false, first)
		got, err := b.unsure(t, "d", "id-d", first, first).send(ctx)
		if !errors.Is(err, store.ErrConflict) || got != second {
			t.Errorf("got %d, %v, want a conflict with %d", got, err, second)
		}
	})
	t.Run("arrived and was rolled up", func(t *testing.T) {
		w := b.unsure(t, "e", "id-e", 0, 0)
		first, err := w.publish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		appendTo("e", "", true, first)
		if got, err := w.send(ctx); err == nil || errors.Is(err, store.ErrConflict) {
			t.Errorf("got %d, %v, want to be told that nobody can know", got, err)
		}
	})
	t.Run("creation over a tombstone arrived", func(t *testing.T) {
		tombstone := appendTo("f", "1", true, appendTo("f", "1", false, 0))
		w := b.unsure(t, "f", "id-f", 0, tombstone)
		first, err := w.publish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.send(ctx); err != nil || got != first {
			t.Errorf("got %d, %v, want %d", got, err, first)
		}
	})
}

func TestLimits(t *testing.T) {
	b, stop := run(t, Config{Dir: t.TempDir()})
	defer stop()
	if _, err := b.Append(t.Context(), "big", make([]byte, MaxValue+1), false, 0); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("too large a value: %v", err)
	}
	first, err := b.Append(t.Context(), "big", make([]byte, MaxValue), false, 0)
	if err != nil {
		t.Fatalf("the largest value: %v", err)
	}
	if _, err := b.Append(t.Context(), "big", make([]byte, MaxValue), true, first); err != nil {
		t.Errorf("delete the largest value: %v", err)
	}
	if _, err := b.Append(t.Context(), string(bytes.Repeat([]byte("k"), 4000)), nil, false, 0); err == nil {
		t.Error("a key of 4000 bytes was accepted")
	}
}

// TestServerReplaced replaces the server under a bucket in use, as after a
// failed write: writers and followers go on.
func TestServerReplaced(t *testing.T) {
	b, stop := run(t, Config{Dir: t.TempDir()})
	defer stop()
	records := follow(t, b)
	revision := uint64(0)
	for range 3 {
		next, err := b.Append(t.Context(), "k", nil, false, revision)
		if err != nil {
			t.Fatal(err)
		}
		if r := <-records; r.Revision != next || next <= revision {
			t.Errorf("followed %d, wrote %d", r.Revision, next)
		}
		revision = next
		b.embedded.broken <- struct{}{}
	}
}
