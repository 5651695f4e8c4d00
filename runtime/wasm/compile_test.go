package wasm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// heavy is a program of so many functions that do arithmetic, which take a
// processor some time to compile.
func heavy(functions int) []byte {
	number := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	section := func(out []byte, id byte, content []byte) []byte {
		return append(append(append(out, id), number(len(content))...), content...)
	}
	body := append([]byte{1, 1, 0x7f}, bytes.Repeat([]byte("\x20\x00\x41\x03\x6c\x20\x00\x73\x21\x00"), 300)...) // n = n*3 ^ n
	body = append(body, 0x0b)
	code := append(number(len(body)), body...)
	out := section([]byte("\x00asm\x01\x00\x00\x00"), 1, []byte("\x01\x60\x00\x00"))
	out = section(out, 3, append(number(functions), make([]byte, functions)...))
	out = section(out, 7, []byte("\x01\x06_start\x00\x00"))
	out = section(out, 10, append(number(functions), bytes.Repeat(code, functions)...))
	return section(out, 0, append([]byte("\x01x"), rand.Text()...)) // a module that was never compiled
}

// TestCompileStarvesNobody: a server answers while a module is compiled, again
// and again.
func TestCompileStarvesNobody(t *testing.T) {
	h := shared.harness
	s := h.Pod(t, nil)
	chello, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	h.Start(t, s, sandbox.ContainerSpec{Image: chello, Ports: []sandbox.Port{{Number: 8080}}})
	path := filepath.Join(t.TempDir(), "heavy.wasm")
	if err := os.WriteFile(path, heavy(1500), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := sandboxtest.FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	compiled := make(chan error, 1)
	go func() { compiled <- h.Runtime.Prepare(t.Context(), image) }()
	client := sandboxtest.Client(s, 8080)
	for answers := 0; ; answers++ {
		select {
		case err := <-compiled:
			if err != nil {
				t.Fatal(err)
			}
			if t.Logf("%d answers while it was compiled", answers); answers < 3 {
				t.Errorf("%d answers while it was compiled", answers)
			}
			return
		default:
		}
		r, err := client.Get("http://pod/")
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
	}
}
