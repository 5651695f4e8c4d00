package wasm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// spins is (module (func (export "_start") (loop (br 0)))).
const spins = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00" +
	"\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"

// TestForget: what was made of a module stays as long as a container runs it,
// then goes from the disk, and is made anew for the next one.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	r, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil { // the test's context has ended
			t.Error(err)
		}
	})
	path := filepath.Join(t.TempDir(), "spin.wasm")
	if err := os.WriteFile(path, []byte(spins), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := sandboxtest.FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	entries := func() int {
		made, _ := filepath.Glob(filepath.Join(dir, "r*", "*"))
		return len(made)
	}
	run := func() sandbox.Container {
		t.Helper()
		s, err := r.Create(t.Context(), sandbox.Pod{UID: "1", Namespace: "default", Name: "one"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close(context.Background()) })
		c, err := s.Start(t.Context(), sandbox.ContainerSpec{Name: "spin", Image: image, Args: []string{"spin"}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := run()
	if n, err := r.Forget(t.Context(), image.ModuleSum); !errors.Is(err, sandbox.ErrInUse) || n != 0 || entries() != 1 {
		t.Errorf("while it runs: %d bytes, %v, %d entries", n, err, entries())
	}
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Forget(t.Context(), image.ModuleSum); err != nil || n == 0 || entries() != 0 {
		t.Errorf("after its end: %d bytes, %v, %d entries", n, err, entries())
	}
	if n, err := r.Forget(t.Context(), image.ModuleSum); err != nil || n != 0 {
		t.Errorf("once more: %d bytes, %v", n, err)
	}
	again := run() // prepares it
	if entries() != 1 {
		t.Errorf("%d entries", entries())
	}
	if err := again.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, interpretedDir)); err == nil {
		t.Error("the interpreter's files were made to be removed")
	}
}
