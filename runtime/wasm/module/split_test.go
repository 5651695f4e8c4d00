package module

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
)

// Loops that branch in every way a loop can, run as they came and rewritten.
func TestSplitLoopsBranchTheSame(t *testing.T) {
	const (
		step = "\x20\x00\x41\x01\x6b\x22\x00" // n-1, kept and on the stack
		acc  = "\x20\x01\x20\x00\x6a\x21\x01" // acc += n
	)
	bodies := map[string]string{
		"loop with a result":   "\x03\x7f" + acc + step + "\x0d\x00\x20\x01\x0b",
		"value out of a block": "\x02\x7f\x03\x40" + acc + "\x20\x01\x20\x00\x45\x0d\x01\x1a" + step + "\x1a\x0c\x00\x0b\x00\x0b",
		"br_table": "\x02\x40\x02\x40\x03\x40\x02\x40" + acc + step + "\x1a" +
			"\x20\x00\x41\x03\x70\x20\x00\x45\x41\x02\x6c\x6a\x0e\x03\x00\x01\x02\x03\x0b\x0c\x00\x0b\x0b\x20\x00\x41\x00\x4a\x04\x40\x20\x00\x20\x01\x6a\x0f\x0b\x0b\x20\x01",
		"return":            "\x03\x40" + acc + step + "\x45\x04\x40\x20\x01\x0f\x0b\x0c\x00\x0b\x00",
		"br to the body":    "\x03\x40" + acc + "\x20\x01" + step + "\x45\x0d\x01\x1a\x0c\x00\x0b\x00",
		"nested":            "\x03\x40\x03\x40" + acc + step + "\x41\x07\x70\x0d\x00\x0b\x20\x00\x0d\x00\x0b\x20\x01",
		"two after another": "\x03\x40" + acc + step + "\x41\x64\x4a\x0d\x00\x0b\x03\x40" + acc + step + "\x41\xb8\x7e\x4a\x0d\x00\x0b\x20\x01",
		"call inside":       "\x03\x40" + acc + "\x10\x00\x1a" + step + "\x0d\x00\x0b\x20\x01",
		"never repeats":     "\x03\x7f\x20\x00\x0b",
	}
	a := newAsm()
	a.fn("seven", "", "i", "", "\x41\x07")
	for name, code := range bodies {
		a.fn(name, "i", "i", "i", code)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	defer rt.Close(ctx)
	plain, err := rt.Instantiate(ctx, a.bytes())
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, Config{})
	rewritten := instance(t, h.load(t, a.bytes()), Limits{})
	for name := range bodies {
		for _, n := range []uint64{1, 2, 3, 50, 105, 99_999} {
			if got, want := call(t, rewritten, name, n), call(t, plain, name, n); got != want {
				t.Errorf("%s(%d) = %d, want %d", name, n, got, want)
			}
		}
	}
}

func TestInnermostLoopsAreSplit(t *testing.T) {
	for _, tc := range []struct {
		name, code string
		want       []bool // of each loop
	}{
		{"simple", codeSpin, []bool{true}},
		{"nested", "\x03\x40" + codeSpin + "\x0b", []bool{false, true}},
		{"call", "\x03\x40\x10\x00\x0b", []bool{false}},
		{"call before", "\x10\x00" + codeSpin, []bool{true}},
		{"bulk", "\x03\x40\x41\x00\x41\x00\x41\x00\xfc\x0b\x00\x0b", []bool{false}},
		{"parameters", "\x41\x00\x03\x01\x1a\x0b", []bool{false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := kernels(1)
			a.types = [][2]string{{"", ""}, {"i", ""}}
			a.funcs = nil
			a.exports = nil
			a.fn("f", "", "", "", tc.code)
			w := firstRewritten(t, a)
			for i, want := range tc.want {
				if got := w.splits(i + 1); got != want {
					t.Errorf("loop %d split: %v, want %v", i, got, want)
				}
			}
		})
	}
}

// firstRewritten returns the writer of a module's bodies when it has written the
// first one.
func firstRewritten(t *testing.T, a *asm) *bodyWriter {
	t.Helper()
	p, err := parse(a.bytes())
	if err != nil {
		t.Fatal(err)
	}
	w := &bodyWriter{p: p, fuel: p.globals, yield: p.imported}
	if err := w.plan(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.rewrite(nil, p.bodies[0], 0); err != nil {
		t.Fatal(err)
	}
	return w
}
