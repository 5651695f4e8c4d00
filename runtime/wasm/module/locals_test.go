package module

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
)

func TestCarriedLocals(t *testing.T) {
	const (
		again = "\x20\x00\x41\x01\x6b\x22\x00\x0d\x00" // local 0 is lowered, and the loop repeated
		set   = "\x41\x05\x21\x01"
		get   = "\x20\x01\x1a"
	)
	for _, tc := range []struct {
		name, code string
		want       localSet // of the first loop
	}{
		{"a counter", "\x03\x40" + again + "\x0b", 1},
		{"only read", "\x03\x40" + get + again + "\x0b", 1},
		{"written and read", "\x03\x40" + set + get + again + "\x0b", 1},
		{"read and written", "\x03\x40" + get + set + again + "\x0b", 3},
		{"read later", "\x03\x40" + again + set + get + "\x0b", 1},
		{"written and read behind", "\x03\x40" + set + again + "\x0b" + get, 1},
		{"perhaps written and read behind", "\x02\x40\x03\x40\x20\x00\x0d\x01" + set + again + "\x0b\x0b" + get, 3},
		{"read behind, never here", "\x02\x40\x03\x40\x20\x00\x0d\x01" + set + "\x0c\x00\x0b\x0b", 0},
		{"returns", "\x03\x40\x20\x00\x04\x40\x0f\x0b" + set + again + "\x0b", 1},
		{"one arm", "\x03\x40\x20\x00\x04\x40" + set + "\x0b" + get + again + "\x0b", 3},
		{"the other arm", "\x03\x40\x20\x00\x04\x40\x05" + set + "\x0b" + get + again + "\x0b", 3},
		{"both arms", "\x03\x40\x20\x00\x04\x40" + set + "\x05" + set + "\x0b" + get + again + "\x0b", 1},
		{"a table", "\x03\x40\x02\x40\x02\x40\x20\x00\x0e\x01\x00\x01\x0b" + set + "\x0b" + get + again + "\x0b", 3},
		{"a table's jumps meet", "\x03\x40\x02\x40\x20\x00\x0e\x01\x00\x00\x0b" + set + get + again + "\x0b", 1},
		{"of an inner loop", "\x03\x40\x03\x40" + get + set + again + "\x0b" + again + "\x0b", 3},
		{"beyond a loop", "\x03\x40\x03\x40" + again + "\x0b" + get + set + again + "\x0b", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAsm()
			a.fn("f", "i", "", "i", tc.code)
			w := firstRewritten(t, a)
			if got := w.loops[1].carried; got != tc.want {
				t.Errorf("carried %b, want %b", got, tc.want)
			}
		})
	}
}

// What asks for fuel leaves the bits of all locals as they are, also of numbers
// that are none.
func TestCopiesKeepBits(t *testing.T) {
	ctx := context.Background()
	for name, call := range map[string]string{"small": "", "with a call": "\x10\x00"} {
		a := newAsm()
		a.fn("nothing", "", "", "", "")
		// Each turn gives the values on: to the other local of its type.
		swap := func(x, y byte) string {
			return string([]byte{opLocalGet, x, opLocalGet, y, opLocalSet, x, opLocalSet, y})
		}
		loop := "\x03\x40" + call + swap(0, 4) + swap(1, 5) + swap(2, 6) + swap(3, 7) +
			"\x20\x08\x41\x01\x6a\x22\x08\x41\xe8\x07\x48\x0d\x00\x0b" // 1000 of them
		for i, result := range []string{"i", "I", "f", "F"} {
			a.fn(result, "iIfF", result, "iIfFi", loop+string([]byte{opLocalGet, byte(i)}))
		}
		out, err := Rewrite(a.bytes())
		if err != nil {
			t.Fatal(err)
		}
		rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
		defer rt.Close(ctx)
		asked := 0
		_, err = rt.NewHostModuleBuilder(hostModule).NewFunctionBuilder().
			WithFunc(func(int64) int64 { asked++; return 600 }).Export(yieldName).Instantiate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := rt.Instantiate(ctx, out.Wasm)
		if err != nil {
			t.Fatal(err)
		}
		in := []uint64{0xdeadbeef, 0xdeadbeefcafef00d, 0xffa00001, 0xfff4000000000001} // the floats are signalling NaNs
		for i, result := range []string{"i", "I", "f", "F"} {
			got, err := mod.ExportedFunction(result).Call(ctx, in...)
			if err != nil || got[0] != in[i] {
				t.Errorf("%s: %s is %#x, %v, want %#x", name, result, got, err, in[i])
			}
		}
		if asked < 100 {
			t.Errorf("%s: fuel was asked for only %d times", name, asked)
		}
	}
}
