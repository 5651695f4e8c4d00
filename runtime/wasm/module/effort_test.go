package module

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// entangled is a function of a number of variables and blocks, each inside the
// last one if deep. Compiling it would take minutes to days.
func entangled(variables, blocks int, block string, deep bool) []byte {
	var b strings.Builder
	local := func(op byte, i int) {
		b.WriteByte(op)
		for ; i >= 0x80; i >>= 7 {
			b.WriteByte(byte(i) | 0x80)
		}
		b.WriteByte(byte(i))
	}
	for i := range variables {
		local(opI32Const, i%64)
		local(opLocalSet, i)
	}
	const end = "\x20\x00\x0d\x00\x0b" // br_if 0 end
	for range blocks {
		b.WriteString(block)
		if !deep {
			b.WriteString(end)
		}
	}
	if deep {
		b.WriteString(strings.Repeat(end, blocks))
	}
	for i := range variables {
		local(opLocalGet, i)
		local(opLocalSet, 0)
	}
	a := newAsm()
	a.fn("run", "", "", strings.Repeat("i", variables), b.String())
	return a.bytes()
}

func TestEffortIsBounded(t *testing.T) {
	const loop, plain = "\x03\x40", "\x02\x40"
	many := newAsm()
	for range 40 {
		many.fn("", "", "", strings.Repeat("i", 1000), strings.Repeat("\x02\x40\x0b", 8000))
	}
	for name, tc := range map[string]struct {
		wasm []byte
		want string // empty: it is taken
	}{
		"loops in a row":     {entangled(4000, 4000, loop, false), "4000 variables"},
		"blocks in a row":    {entangled(4000, 4000, plain, false), "4000 variables"},
		"loops in loops":     {entangled(200, 200, loop, true), "200 loops in one another"},
		"few variables":      {entangled(10, 20_000, plain, true), ""},
		"few blocks":         {entangled(20_000, 10, loop, true), ""},
		"many such":          {many.bytes(), "so many variables"},
		"as toolchains make": {kernels(1, 9).bytes(), ""},
	} {
		_, err := Rewrite(tc.wasm)
		var bad *InvalidError
		if (err == nil) != (tc.want == "") || err != nil && (!errors.As(err, &bad) || !strings.Contains(bad.Reason, tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCompileTime: what takes too long is refused with that reason, and its
// place is free again when the work has come to its end.
func TestCompileTime(t *testing.T) {
	c := newCache(t, Config{CompileTime: 1})
	path, sum := file(t, kernels(1, 9).bytes())
	err := c.Prepare(context.Background(), path, sum)
	var bad *InvalidError
	if !errors.As(err, &bad) || !strings.Contains(bad.Reason, "takes longer than 1ns") {
		t.Fatalf("error %v", err)
	}
	c.cfg.CompileTime = time.Hour
	if err := c.Prepare(context.Background(), path, sum); err != nil {
		t.Error(err)
	}
}
