package module

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// counter is a library: _initialize stores 40 at address 8 and 2 in a global,
// sum adds both and then changes them.
func counter(edit func(*asm)) *asm {
	a := newAsm()
	a.imports = []asmImport{{"wasi_snapshot_preview1", "random_get", a.typ("ii", "i")}, {"wasi_snapshot_preview1", "sock_accept", a.typ("iii", "i")}}
	a.memory = []uint32{1}
	a.exports = append(a.exports, exportEntry{"memory", kindMemory, 0})
	a.globals = []string{"\x41\x00", "\x41\x07"}
	a.data = []dataSegment{{active: true, offset: 8, init: []byte{1}}}
	a.fn("_initialize", "", "", "", "\x41\x08\x41\x28\x36\x02\x00\x41\x02\x24\x00\x41\x02\x40\x00\x1a")
	a.fn("sum", "", "i", "", "\x41\x08\x28\x02\x00\x23\x00\x6a\x41\x08\x41\x00\x36\x02\x00\x41\x00\x24\x00")
	if edit != nil {
		edit(a)
	}
	return a
}

func TestSnapshot(t *testing.T) {
	wasm := counter(nil).bytes()
	shot, err := Snapshot(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Snapshot(t.Context(), wasm)
	if err != nil || !bytes.Equal(shot, again) {
		t.Errorf("two snapshots differ (%v)", err)
	}
	h := newHost(t, Config{})
	m := h.load(t, shot)
	for range 2 { // each instance begins anew
		mod := instance(t, m, Limits{})
		if mod.ExportedFunction(initFunction) != nil {
			t.Error("it would be initialised again")
		}
		if got := mod.Memory().Size(); got != 3*PageSize {
			t.Errorf("memory of %d bytes", got)
		}
		if got := call(t, mod, "sum"); got != 42 {
			t.Errorf("sum = %d", got)
		}
		if got := call(t, mod, "sum"); got != 0 {
			t.Errorf("second sum = %d", got)
		}
	}
}

func TestSnapshotOfGo(t *testing.T) {
	const source = `package main

import "strings"

var table = strings.Repeat("x", 1000)

//go:wasmexport length
func length() int32 { return int32(len(table)) }

//go:wasmexport wherry_resume
func resume() {}

func main() {}
`
	wasm := goModuleWith(t, source, "-buildmode=c-shared")
	shot, err := Snapshot(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, Config{})
	mod := instance(t, h.load(t, shot), Limits{})
	if got := call(t, mod, "length"); got != 1000 {
		t.Errorf("length = %d", got)
	}
}

func TestSnapshotsThatAreRefused(t *testing.T) {
	initialise := func(code string) func(*asm) { return func(a *asm) { a.funcs[0].code = code } }
	for name, tc := range map[string]struct {
		edit func(*asm)
		want string
	}{
		"no initialisation": {func(a *asm) { a.exports[1].name = "other" }, "exports neither _initialize nor"},
		"randomness":        {initialise("\x41\x00\x41\x04\x10\x00\x1a"), "asks for randomness"},
		"a connection":      {initialise("\x41\x03\x41\x00\x41\x00\x10\x01\x1a"), "calls sock_accept"},
		"a trap":            {initialise("\x00"), "the initialisation has failed"},
		"a table":           {func(a *asm) { a.table = []int{0}; a.fn("", "", "", "", "\x41\x00\xd0\x70\x26\x00") }, "changes tables"},
		"segments": {func(a *asm) {
			a.count = true
			a.fn("", "", "", "", "\x41\x00\x41\x00\x41\x00\xfc\x08\x00\x00")
		}, "passive data segments"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Snapshot(context.Background(), counter(tc.edit).bytes())
			var bad *InvalidError
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	// Whoever sees to it in each instance may.
	free := func(a *asm) {
		initialise("\x41\x00\x41\x04\x10\x00\x1a")(a)
		a.fn(ResumeFunction, "", "", "", "\x01")
	}
	if _, err := Snapshot(context.Background(), counter(free).bytes()); err != nil {
		t.Error(err)
	}
}
