package wasm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

func TestImagesThatCannotRun(t *testing.T) {
	for _, c := range []struct{ name, bytes, reason string }{
		{"not wasm", "#!/bin/sh\n", ""},
		{"component", "\x00asm\x0d\x00\x01\x00", "component"},
		{"library", "\x00asm\x01\x00\x00\x00", "_start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.wasm")
			if err := os.WriteFile(path, []byte(c.bytes), 0o600); err != nil {
				t.Fatal(err)
			}
			image, err := sandboxtest.FromFile(path)
			if err != nil {
				t.Fatal(err)
			}
			err = shared.harness.Runtime.Prepare(t.Context(), image)
			var invalid *sandbox.InvalidImageError
			if !errors.As(err, &invalid) || !strings.Contains(invalid.Reason, c.reason) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNameBook(t *testing.T) {
	var b nameBook
	first, err := b.address("db.default.svc")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := b.address("db.default.svc")
	other, _ := b.address("cache")
	if first != again || first == other || first.As4()[0] != 240 {
		t.Errorf("%v, %v, %v", first, again, other)
	}
	if name, ok := b.name(other); !ok || name != "cache" {
		t.Errorf("%q", name)
	}
}
