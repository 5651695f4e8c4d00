package module

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// mixed uses what shifts when an import is added: imports, calls, tail calls,
// tables, references, a start function, names, globals.
func mixed() *asm {
	a := kernels(1, 50)
	a.imports = []asmImport{{"wasi_snapshot_preview1", "sched_yield", a.typ("", "i")}}
	for i := range a.exports[1:] {
		a.exports[i+1].index++
	}
	fib := byte(2) // behind one import and sum
	a.funcs[1].code = strings.ReplaceAll(a.funcs[1].code, "\x10\x01", "\x10"+string(fib))
	a.globals = []string{"\x41\x05"}
	a.table = []int{1, 2, 0}
	a.fn("indirect", "ii", "i", "", "\x20\x01\x20\x00\x11"+string(rune(a.typ("i", "i")))+"\x00") // table[p0](p1)
	a.fn("tail", "i", "i", "", "\x20\x00\x12"+string(fib))
	a.fn("host", "", "i", "", "\x10\x00")
	a.fn("global", "i", "i", "", "\x23\x00\x20\x00\x24\x00")
	a.fn("deaf", "", "i", "", "\xd2"+string(fib)+"\xd1")
	a.start = a.fn("", "", "", "", "\x41\x2a\x24\x00")
	names := appendU32(nil, 3)
	for i, n := range []string{"sched_yield", "sum", "fib"} {
		names = appendName(appendU32(names, uint32(i)), n)
	}
	a.customs = []custom{{"name", appendSection([]byte{0, 2, 1, 'm'}, 1, names)}, {".debug_info", []byte("x")}}
	return a
}

func TestRewriteMovesFunctions(t *testing.T) {
	h := newHost(t, Config{})
	m := h.load(t, mixed().bytes())
	mod := instance(t, m, Limits{})
	for _, tc := range []struct {
		name string
		args []uint64
		want uint64
	}{
		{"fib", []uint64{10}, 55},
		{"sum", []uint64{10}, 55},
		{"indirect", []uint64{0, 4}, 10},
		{"indirect", []uint64{1, 12}, 144},
		{"tail", []uint64{11}, 89},
		{"host", nil, 0},
		{"global", []uint64{7}, 42},
		{"global", []uint64{8}, 7},
		{"deaf", nil, 0},
	} {
		if got := call(t, mod, tc.name, tc.args...); got != tc.want {
			t.Errorf("%s%v = %d, want %d", tc.name, tc.args, got, tc.want)
		}
	}
	if got := m.Compiled().ExportedFunctions()["fib"].Name(); got != "fib" {
		t.Errorf("fib is named %q", got)
	}
}

func TestRewriteIsDeterministic(t *testing.T) {
	for _, wasm := range [][]byte{mixed().bytes(), imageModule().bytes(), goModule(t, goHello)} {
		first, err := Rewrite(wasm)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Rewrite(bytes.Clone(wasm))
		if err != nil || !bytes.Equal(first.Wasm, again.Wasm) || !bytes.Equal(first.Image, again.Image) {
			t.Errorf("two rewrites differ (err %v)", err)
		}
	}
}

// What only the rewriter adds must stay out of the guest's reach.
func TestRewriteGuardsItsOwn(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*asm)
		want string
	}{
		{"reads fuel", func(a *asm) { a.fn("x", "", "", "", "\x23\x00\x1a") }, "unknown global"},
		{"writes fuel", func(a *asm) { a.fn("x", "", "", "", "\x42\x00\x24\x00") }, "unknown global"},
		{"exports fuel", func(a *asm) { a.exports = append(a.exports, exportEntry{"x", kindGlobal, 0}) }, "unknown global"},
		{"global of fuel", func(a *asm) { a.globals = []string{"\x23\x01"} }, "unknown global"},
		{"calls beyond", func(a *asm) { a.fn("x", "", "", "", "\x10\x7f") }, "unknown function"},
		{"exports beyond", func(a *asm) { a.exports = append(a.exports, exportEntry{"x", kindFunction, 8}) }, "unknown function"},
		{"starts beyond", func(a *asm) { a.start = 8 }, "unknown function"},
		{"table beyond", func(a *asm) { a.table = []int{8} }, "unknown function"},
		{"scratch local", func(a *asm) { a.fn("x", "", "", "", codeSpin+"\x20\x00\x1a") }, "unknown local"},
		{"yield's type", func(a *asm) { a.fn("x", "", "", "", "\x02\x7f\x0b") }, ""},
		{"block type", func(a *asm) { a.fn("x", "", "", "", "\x02\x09\x0b") }, "unknown type"},
		{"indirect type", func(a *asm) { a.table = []int{}; a.fn("x", "", "", "", "\x41\x00\x11\x09\x00") }, "unknown type"},
		{"atomics", func(a *asm) { a.fn("x", "", "", "", "\xfe\x03\x00") }, "threads"},
		{"relaxed simd", func(a *asm) { a.fn("x", "", "", "", "\xfd\x80\x02") }, "relaxed"},
		{"behind the end", func(a *asm) { a.fn("x", "", "", "", "\x0b") }, "behind its end"},
		{"no end", func(a *asm) { a.fn("x", "", "", "", "\x02\x40") }, "truncated"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := kernels(1)
			tc.edit(a)
			_, err := Rewrite(a.bytes())
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var bad *InvalidError
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, tc.want) {
				t.Errorf("err = %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestTablesAreBounded(t *testing.T) {
	a := newAsm()
	a.table = []int{}
	a.fn("grow", "i", "i", "", "\xd0\x70\x20\x00\xfc\x0f\x00")
	h := newHost(t, Config{})
	mod := instance(t, h.load(t, a.bytes()), Limits{})
	if got := uint32(call(t, mod, "grow", maxTable+1)); got != 0xffffffff {
		t.Errorf("table grew beyond its bound: %d", int32(got))
	}
	if got := call(t, mod, "grow", 100); got != 0 {
		t.Errorf("grow = %d", int32(got))
	}
}

// Fuel is proportional to the work, whichever way it is done.
func TestFuelFollowsWork(t *testing.T) {
	h := newHost(t, Config{})
	m := h.load(t, kernels(400).bytes())
	used := func(name string, arg uint64) int64 {
		meter := NewMeter(0)
		mod := instance(t, m, Limits{})
		if _, err := mod.ExportedFunction(name).Call(WithMeter(context.Background(), meter), arg); err != nil {
			t.Fatal(err)
		}
		return meter.Fuel()
	}
	for _, tc := range []struct {
		name        string
		arg         uint64
		least, most int64
	}{
		{"sum", 1_000_000, 8_000_000, 16_000_000},
		{"fib", 24, 150_000 * 10, 150_000 * 40},
		{"fill", 400 * PageSize, 400*PageSize/8 - largePortion, 400*PageSize/8 + largePortion}, // up to the last yield
	} {
		if got := used(tc.name, tc.arg); got < tc.least || got > tc.most {
			t.Errorf("%s(%d) used %d fuel, want %d to %d", tc.name, tc.arg, got, tc.least, tc.most)
		}
	}
}

func TestImageOnlyWhereSafe(t *testing.T) {
	big := bytes.Repeat([]byte{1}, imageMinBytes)
	seg := func(offset uint32) dataSegment { return dataSegment{active: true, offset: offset, init: big} }
	for _, tc := range []struct {
		name string
		data []dataSegment
		code string
		want bool
	}{
		{"large", []dataSegment{seg(100)}, "", true},
		{"small", []dataSegment{{active: true, init: big[1:]}}, "", false},
		{"passive, unused", []dataSegment{seg(0), {init: big}}, "", true},
		{"only passive", []dataSegment{{init: big}}, "", false},
		{"memory.init", []dataSegment{seg(0)}, "\x41\x00\x41\x00\x41\x00\xfc\x08\x00\x00", false},
		{"data.drop", []dataSegment{seg(0)}, "\xfc\x09\x00", false},
		{"out of bounds", []dataSegment{seg(9*PageSize + 1)}, "", false},
		{"far out", []dataSegment{seg(0xffffffff)}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := kernels(10)
			a.data, a.count = tc.data, true
			a.fn("x", "", "", "", tc.code)
			out, err := Rewrite(a.bytes())
			if err != nil || (out.Image != nil) != tc.want {
				t.Fatalf("image of %d bytes, err %v", len(out.Image), err)
			}
			ctx := context.Background()
			rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
			defer rt.Close(ctx)
			if _, err := rt.CompileModule(ctx, out.Wasm); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTablesTogether: each is within the bound, both are not.
func TestTablesTogether(t *testing.T) {
	table := append([]byte{0x70, 0}, appendU32(nil, maxTable/2+1)...)
	for count, want := range map[byte]string{1: "", 2: "the tables have more than"} {
		module := appendSection([]byte("\x00asm\x01\x00\x00\x00"), secTable, append([]byte{count}, bytes.Repeat(table, int(count))...))
		_, err := Rewrite(module)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d tables: %v", count, err)
		}
	}
}
