package module

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// program writes random functions that branch, loop and call in every way that
// the format has. Each turn of a loop and each call takes a tick from a global;
// without one left they return, so that all programs end.
type program struct {
	random *rand.Rand
	b      strings.Builder
	labels []bool // of the open blocks: it takes a value
}

const (
	programLocals = 4 // the first is the parameter
	programFuncs  = 3
)

func (p *program) put(bytes ...byte) { p.b.Write(bytes) }

func (p *program) local() byte { return byte(p.random.IntN(programLocals)) }

// tick: global 0 -= 1; if it is below zero, return local 0.
func (p *program) tick() {
	p.put(opGlobalGet, 0, opI32Const, 1, opI32Sub, opGlobalSet, 0)
	p.put(opGlobalGet, 0, opI32Const, 0, 0x48, opIf, typeEmpty, opLocalGet, 0, opReturn, opEnd)
}

// condition is a bit of a local.
func (p *program) condition() {
	p.put(opLocalGet, p.local(), opI32Const, byte(p.random.IntN(5)), 0x76, opI32Const, 1, 0x71)
}

// label chooses an open block that takes no value, 255 if there is none.
func (p *program) label() byte {
	for range 4 {
		i := p.random.IntN(len(p.labels))
		if !p.labels[len(p.labels)-1-i] {
			return byte(i)
		}
	}
	return 255
}

func (p *program) block(op byte, valued bool, depth int) {
	typ := byte(typeEmpty)
	if valued {
		typ = typeI32
	}
	p.put(op, typ)
	p.labels = append(p.labels, valued && op != opLoop)
	if op == opLoop {
		p.tick()
	}
	p.statements(depth - 1)
	if op == opIf && (valued || p.random.IntN(2) == 0) {
		if valued {
			p.put(opLocalGet, p.local())
		}
		p.put(opElse)
		p.statements(depth - 1)
	}
	if op == opLoop && p.random.IntN(4) > 0 {
		p.condition()
		p.put(opBrIf, 0)
	}
	if valued {
		p.put(opLocalGet, p.local())
	}
	p.labels = p.labels[:len(p.labels)-1]
	p.put(opEnd)
	if valued {
		p.put(opLocalSet, p.local())
	}
}

func (p *program) statements(depth int) {
	for range 1 + p.random.IntN(3) {
		p.statement(depth)
	}
}

func (p *program) statement(depth int) {
	kind := p.random.IntN(10)
	if depth <= 0 {
		kind = 5 + kind%5
	}
	valued := p.random.IntN(3) == 0
	switch kind {
	case 0, 1:
		p.block(opLoop, valued, depth)
	case 2, 3:
		p.block(opBlock, valued, depth)
	case 4:
		p.condition()
		p.block(opIf, valued, depth)
	case 5:
		if l := p.label(); l != 255 {
			p.condition()
			p.put(opBrIf, l)
		}
	case 6:
		if l := p.label(); l != 255 {
			p.put(opLocalGet, p.local(), opI32Const, 3, 0x71, opBrTable, 1, l, l)
		}
	case 7:
		p.put(opLocalGet, p.local(), opCall, byte(p.random.IntN(programFuncs)), opLocalSet, p.local())
	default:
		p.put(opLocalGet, p.local(), opLocalGet, p.local(), opI32Const, byte(p.random.IntN(60)), 0x6c, []byte{opI32Add, opI32Sub, 0x73}[p.random.IntN(3)], opLocalSet, p.local())
	}
}

func randomProgram(seed uint64) []byte {
	a := newAsm()
	a.globals = []string{"\x41\xe4\x00"} // 100 ticks
	for _, name := range []string{"f", "g", "h"} {
		p := &program{random: rand.New(rand.NewPCG(seed, uint64(name[0]))), labels: []bool{true}}
		p.tick()
		for range 3 {
			p.statements(4)
		}
		p.put(opLocalGet, 0)
		for i := byte(1); i < programLocals; i++ {
			p.put(opI32Const, 31, 0x6c, opLocalGet, i, opI32Add)
		}
		a.fn(name, "i", "i", strings.Repeat("i", programLocals-1), p.b.String())
	}
	a.fn("ticks", "", "i", "", "\x23\x00")
	return a.bytes()
}

// FuzzPrograms: a rewritten program does what it did before.
func FuzzPrograms(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	f.Cleanup(func() { rt.Close(ctx) })
	// Little fuel at a time, so that yields come everywhere; a split loop needs as
	// much as its copies cost.
	_, err := rt.NewHostModuleBuilder(hostModule).NewFunctionBuilder().
		WithFunc(func(int64) int64 { return 600 }).Export(yieldName).Instantiate(ctx)
	if err != nil {
		f.Fatal(err)
	}
	results := func(t *testing.T, wasm []byte) (all []uint64) {
		for arg := range uint64(6) {
			mod, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName(""))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, call(t, mod, "f", arg), call(t, mod, "ticks"))
			mod.Close(ctx)
		}
		return all
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		wasm := randomProgram(seed)
		out, err := Rewrite(wasm)
		if err != nil {
			t.Fatal(err)
		}
		before, after := results(t, wasm), results(t, out.Wasm)
		for i := range before {
			if before[i] != after[i] {
				t.Fatalf("result %d is %d, was %d", i, after[i], before[i])
			}
		}
	})
}
