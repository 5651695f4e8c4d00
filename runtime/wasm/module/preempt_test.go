package module

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

// busy are guests that never end, each by another kind of code.
func busy() map[string]*asm {
	all := map[string]*asm{}
	guest := func(name string, build func(*asm)) {
		a := newAsm()
		a.memory = []uint32{1}
		build(a)
		all[name] = a
	}
	run := func(code string) func(*asm) { return func(a *asm) { a.fn("run", "", "", "i", code) } }
	self := func(op string) func(*asm) {
		return func(a *asm) {
			a.fn("run", "", "", "", "")
			a.fn("", "", "", "", op)
			a.funcs[0].code = "\x03\x40\x10\x01\x0c\x00\x0b"
		}
	}
	guest("loop", run(codeSpin))
	guest("loop with work", run("\x03\x40\x20\x00\x41\x01\x6a\x21\x00\x0c\x00\x0b"))
	guest("nested loops", run("\x03\x40\x03\x40\x20\x00\x41\x01\x6a\x22\x00\x41\x07\x71\x0d\x00\x0b\x0c\x00\x0b"))
	guest("table of branches", run("\x03\x40\x02\x40\x02\x40\x20\x00\x41\x01\x6a\x22\x00\x41\x03\x71\x0e\x03\x00\x01\x02\x02\x0b\x0c\x01\x0b\x0c\x00\x0b"))
	guest("tail calls", self("\x12\x01"))
	guest("two functions", func(a *asm) {
		a.fn("run", "", "", "", "\x12\x01")
		a.fn("", "", "", "", "\x12\x00")
	})
	guest("tail calls through a table", func(a *asm) {
		a.table = []int{0}
		a.fn("run", "", "", "", "\x41\x00\x13\x00\x00")
	})
	guest("tree of calls", func(a *asm) { // 2^60 calls without a loop or a cycle
		for i := range 60 {
			a.fn("", "", "", "", "\x10"+string(rune(i+1))+"\x10"+string(rune(i+1)))
		}
		a.fn("", "", "", "", "\x01")
		a.exports = append(a.exports, exportEntry{"run", kindFunction, 0})
	})
	guest("huge function", run("\x03\x40"+strings.Repeat("\x20\x00\x41\x03\x6c\x21\x00", 100_000)+"\x0c\x00\x0b"))
	guest("memory.fill", func(a *asm) {
		a.memory = []uint32{8192}
		run("\x03\x40\x41\x00\x41\x01\x41\x80\x80\x80\x80\x02\xfc\x0b\x00\x0c\x00\x0b")(a)
	})
	guest("memory.copy", func(a *asm) {
		a.memory = []uint32{8192}
		run("\x03\x40\x41\x01\x41\x00\x41\xff\xff\xff\xff\x01\xfc\x0a\x00\x00\x0c\x00\x0b")(a)
	})
	guest("first touches", func(a *asm) { // one byte of each page of a gigabyte, and then for ever
		a.memory = []uint32{16384}
		run("\x03\x40\x20\x00\x41\x01\x36\x02\x00\x20\x00\x41\x80\x20\x6a\x41\xff\xff\xff\xff\x03\x71\x21\x00\x0c\x00\x0b")(a)
	})
	guest("memory.grow", run("\x03\x40\x41\x7f\x40\x00\x1a\x0c\x00\x0b"))
	guest("start section", func(a *asm) { a.start = a.fn("run", "", "", "", codeSpin) })
	guest("a throw and a catch", func(a *asm) {
		run("\x03\x40\x02\x40\x1f\x40\x01\x02\x00\x01\x0b\x0b\x0c\x00\x0b")(a)
	})
	return all
}

// TestBusyGuestsStop: whatever a guest does, the collector comes to its turn
// (a guest that cannot be preempted would stop it, and the test, for ever) and
// the guest can be killed.
func TestBusyGuestsStop(t *testing.T) {
	h := newHost(t, Config{})
	for name, a := range busy() {
		t.Run(name, func(t *testing.T) {
			m := h.load(t, a.bytes())
			meter := NewMeter(0)
			ctx := WithMeter(context.Background(), meter)
			ended := make(chan error)
			go func() {
				mod, err := m.Instantiate(ctx, wazero.NewModuleConfig(), Limits{Meter: meter})
				if err == nil {
					defer mod.Close(ctx)
					_, err = mod.ExportedFunction("run").Call(ctx)
				}
				ended <- err
			}()
			for meter.Fuel() == 0 {
				runtime.Gosched()
			}
			worst := time.Duration(0)
			for range 5 {
				began := time.Now()
				runtime.GC()
				worst = max(worst, time.Since(began))
			}
			t.Logf("the slowest collection took %v", worst)
			meter.Kill()
			var exit *sys.ExitError
			if err := <-ended; !errors.As(err, &exit) || exit.ExitCode() != KilledExitCode {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// Copies and fills in pieces do what whole ones do, to the byte.
func TestPieces(t *testing.T) {
	a := newAsm()
	a.memory = []uint32{96}
	a.exports = append(a.exports, exportEntry{"memory", kindMemory, 0})
	a.fn("copy", "iii", "", "", "\x20\x00\x20\x01\x20\x02\xfc\x0a\x00\x00")
	a.fn("fill", "iii", "", "", "\x20\x00\x20\x01\x20\x02\xfc\x0b\x00")
	h := newHost(t, Config{})
	const size = 96 * PageSize
	for _, tc := range []struct {
		name            string
		to, from, count uint64 // from is the value of a fill
		traps           bool
	}{
		{"copy", 0, 3_000_000, 3 * pieceBytes, false},
		{"copy", 1, 0, 5*pieceBytes + 17, false},
		{"copy", 0, 1, 5*pieceBytes + 17, false},
		{"copy", 1000, 2_000_000, pieceBytes, false},
		{"copy", 5, 5, 4 * pieceBytes, false},
		{"copy", 0, size - 2*pieceBytes, 2 * pieceBytes, false},
		{"copy", 0, size - 2*pieceBytes, 2*pieceBytes + 1, true},
		{"copy", size - 2*pieceBytes, 0, 2*pieceBytes + 1, true},
		{"copy", 100, 0, math.MaxUint32, true},
		{"fill", 7, 9, 3*pieceBytes + 1, false},
		{"fill", 7, 9, pieceBytes + 1, false},
		{"fill", size - pieceBytes - 1, 9, pieceBytes + 1, false},
		{"fill", size - pieceBytes, 9, pieceBytes + 1, true},
		{"fill", 4096, 9, math.MaxUint32, true},
		{"fill", math.MaxUint32, 9, 2 * pieceBytes, true},
	} {
		mod := instance(t, h.load(t, a.bytes()), Limits{})
		got, _ := mod.Memory().Read(0, size)
		for i := range got {
			got[i] = byte(i*i>>7 ^ i)
		}
		want := append([]byte(nil), got...)
		switch {
		case tc.traps:
		case tc.name == "copy":
			copy(want[tc.to:], want[tc.from:tc.from+tc.count])
		default:
			for i := range want[tc.to : tc.to+tc.count] {
				want[tc.to+uint64(i)] = byte(tc.from)
			}
		}
		_, err := mod.ExportedFunction(tc.name).Call(context.Background(), tc.to, tc.from, tc.count)
		if (err != nil) != tc.traps {
			t.Errorf("%+v: %v", tc, err)
		}
		if string(got) != string(want) {
			t.Errorf("%+v: the memory differs", tc)
		}
	}
}
