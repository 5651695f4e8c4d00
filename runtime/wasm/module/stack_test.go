package module

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// recursion has "down", which calls itself as often as it is told and returns
// that number.
func recursion() *asm {
	a := newAsm()
	a.memory = []uint32{1}
	a.fn("down", "i", "i", "", "\x20\x00\x45\x04\x7f\x41\x00\x05\x20\x00\x41\x01\x6b\x10\x00\x41\x01\x6a\x0b")
	return a
}

// TestStackCounts: calls count as memory as soon as they are deep, and the
// guest ends when both are beyond its limit.
func TestStackCounts(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the interpreter bounds its frames itself")
	}
	h := newHost(t, Config{})
	m := h.load(t, recursion().bytes())
	for name, tc := range map[string]struct {
		limit int64
		depth uint64
		fits  bool
	}{
		"a little":            {PageSize, 1000, true},
		"deep within a limit": {64 << 20, 200_000, true},
		"too deep":            {1 << 20, 200_000, false},
		"for ever":            {4 << 20, 1 << 31, false},
	} {
		gauge, meter := NewGauge(tc.limit), NewMeter(0)
		ctx := WithMeter(context.Background(), meter)
		mod, err := m.Instantiate(ctx, wazero.NewModuleConfig(), Limits{Memory: gauge, Meter: meter})
		if err != nil {
			t.Fatal(err)
		}
		out, err := meter.Call(ctx, mod.ExportedFunction("down"), gauge, tc.depth)
		var deep *StackLimitError
		switch {
		case tc.fits && (err != nil || out[0] != tc.depth):
			t.Errorf("%s: %v, %v", name, out, err)
		case !tc.fits && (!errors.As(err, &deep) || deep.Limit != tc.limit || deep.Memory != PageSize || deep.Stack+deep.Memory <= deep.Limit):
			t.Errorf("%s: %v, %+v", name, err, deep)
		}
		if size := gauge.Size(); size != PageSize {
			t.Errorf("%s: %d bytes are counted after the call", name, size)
		}
		if err := mod.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	mod := instance(t, m, Limits{})
	meter := NewMeter(0)
	_, err := meter.Call(WithMeter(context.Background(), meter), mod.ExportedFunction("down"), NewGauge(0), 1<<31)
	if err == nil || !strings.Contains(err.Error(), "stack overflow") {
		t.Errorf("without a limit: %v", err)
	}
}

// TestStackIsSeen fails when wazero keeps its stack elsewhere than it did.
func TestStackIsSeen(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the interpreter bounds its frames itself")
	}
	h := newHost(t, Config{})
	mod := instance(t, h.load(t, recursion().bytes()), Limits{})
	if stack := stackOf(mod.ExportedFunction("down")); !stack.IsValid() || stack.Len() == 0 {
		t.Error("the size of a call's stack cannot be read any more; see stackField")
	}
}
