package module

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// goProgram writes random functions as the toolchain does.
type goProgram struct {
	random *rand.Rand
	b      []byte
	segs   uint32
	seg    uint32
	frame  int64
}

const (
	goProgramRegisters = 4    // i64 locals from 2 on
	goProgramHeap      = 4096 // what registers point to; the ticks are before it
	goProgramTicks     = 4000
	goProgramResume    = 4008 // the return address of who waits
)

func (p *goProgram) put(b ...byte) { p.b = append(p.b, b...) }

func (p *goProgram) constant(op byte, v int64) { p.b = appendSigned(append(p.b, op), v) }

func (p *goProgram) register() byte { return byte(2 + p.random.IntN(goProgramRegisters)) }

// slot is an offset of a variable in the frame, or of an argument behind it.
func (p *goProgram) slot() uint32 { return uint32(p.random.IntN(int(p.frame)/8+4)) * 8 }

// move adds to the stack pointer.
func (p *goProgram) move(op byte, by int64) {
	p.put(opLocalGet, 1)
	p.constant(opI32Const, by)
	p.put(op, opLocalTee, 1, opGlobalSet, 0)
}

// jump goes to a segment: depth says how many ifs are around it.
func (p *goProgram) jump(to, depth uint32) {
	p.constant(opI32Const, int64(to))
	p.put(opLocalSet, 0, opBr)
	p.b = appendU32(p.b, depth+p.segs-1-p.seg)
}

func (p *goProgram) leave() {
	if p.frame > 0 {
		p.move(opI32Add, p.frame)
	}
	p.move(opI32Add, goReturnBytes)
	p.put(opI32Const, 0, opReturn)
}

// call calls a helper, and says that it may have to be left for another goroutine.
func (p *goProgram) call(helper byte, resume, depth uint32) {
	p.move(opI32Sub, goReturnBytes)
	p.put(opLocalGet, 1)
	p.constant(opI64Const, (goFirstFunc+2)<<goSegmentBits|int64(resume))
	p.put(opI64Store, 3, 0, opI32Const, 0, opCall, helper, opGlobalGet, 0, opLocalSet, 1, opBrIf)
	p.b = appendU32(p.b, depth+p.segs-p.seg)
}

// narrowed is a register's address in the heap.
func (p *goProgram) narrowed() { p.put(opLocalGet, p.register(), opI32WrapI64) }

func (p *goProgram) statement() {
	switch p.random.IntN(11) {
	case 9: // a value is moved, perhaps onto itself
		p.narrowed()
		p.put(opLocalGet, 1, opI64ExtendI32U)
		p.constant(opI64Const, int64(p.slot()))
		p.put(opI64Add, opI32WrapI64)
		if p.random.IntN(2) == 0 {
			p.put(opDrop)
			p.narrowed()
		}
		p.constant(opI32Const, 8*int64(1+p.random.IntN(9)))
		p.put(opMisc, miscMemoryCopy, 0, 0)
	case 10: // and cleared
		p.narrowed()
		p.put(opI32Const, 0)
		p.constant(opI32Const, 8*int64(1+p.random.IntN(9)))
		p.put(opMisc, miscMemoryFill, 0)
	case 0:
		p.put(opLocalGet, 1, opI64Load, 3)
		p.b = append(appendU32(p.b, p.slot()), opLocalSet, p.register())
	case 1:
		p.put(opLocalGet, 1, opLocalGet, p.register(), opLocalGet, p.register(), opI64Add, opI64Store, 3)
		p.b = appendU32(p.b, p.slot())
	case 2: // an address in the frame
		p.put(opLocalGet, 1, opI64ExtendI32U)
		p.constant(opI64Const, int64(p.slot()))
		p.put(opI64Add, opI32WrapI64, opLocalGet, p.register(), opI64Store, 3, 0)
	case 3:
		p.constant(opI64Const, goProgramHeap+8*int64(p.random.IntN(16)))
		p.put(opLocalSet, p.register())
	case 4, 5:
		p.narrowed()
		p.put(opI64Load, 3, byte(8*p.random.IntN(8)), opLocalSet, p.register())
	case 6:
		p.narrowed()
		p.put(opLocalGet, p.register(), opI64Store, 3, byte(8*p.random.IntN(8)))
	case 7: // a register stays a pointer, most of the time
		r := p.register()
		p.put(opLocalGet, r)
		p.constant(opI64Const, 0xf8)
		p.put(0x83)
		p.constant(opI64Const, goProgramHeap)
		p.put(opI64Add, opLocalSet, r)
	case 8: // nil check
		p.put(opLocalGet, p.register(), opI64Eqz, opIf, typeEmpty)
		p.call(1, 0, 1)
		p.put(opEnd)
	}
}

// segment is the code up to the end of a block. It takes a tick, and returns
// without one.
func (p *goProgram) segment() {
	p.constant(opI32Const, goProgramTicks)
	p.constant(opI32Const, goProgramTicks)
	p.put(opI64Load, 3, 0, opI64Const, 1, opI64Sub, opI64Store, 3, 0)
	p.constant(opI32Const, goProgramTicks)
	p.put(opI64Load, 3, 0, opI64Eqz, opIf, typeEmpty)
	p.leave()
	p.put(opEnd)
	for range p.random.IntN(5) {
		p.statement()
	}
	some := func() uint32 { return 1 + uint32(p.random.IntN(int(p.segs)-1)) }
	switch p.random.IntN(5) {
	case 0, 1:
		p.put(opLocalGet, p.register(), opLocalGet, p.register(), 0x53, opI32Eqz, opIf, typeEmpty)
		p.jump(some(), 1)
		p.put(opEnd)
	case 2:
		if p.seg+1 < p.segs {
			p.jump(some(), 0)
		}
	case 3:
		if p.seg+1 < p.segs {
			p.call(0, p.seg+1, 0)
		}
	}
}

// function is the code of a whole function.
func (p *goProgram) function() string {
	p.put(opGlobalGet, 0, opLocalSet, 1, opBlock, typeEmpty, opLoop, typeEmpty)
	for range p.segs {
		p.put(opBlock, typeEmpty)
	}
	p.put(opLocalGet, 0, opBrTable)
	p.b = appendU32(p.b, p.segs-1)
	for i := range p.segs {
		p.b = appendU32(p.b, i)
	}
	for p.seg = range p.segs {
		p.put(opEnd)
		if p.seg == 0 && p.frame > 0 {
			p.move(opI32Sub, p.frame)
		}
		if p.seg == 0 {
			for r := byte(2); r < 2+goProgramRegisters; r++ {
				p.constant(opI64Const, goProgramHeap+8*int64(r))
				p.put(opLocalSet, r)
			}
		}
		p.segment()
	}
	p.leave()
	p.put(opEnd, opUnreachable, opEnd, opI32Const, 1)
	return string(p.b)
}

// randomGoProgram has two helpers: one returns or waits, in turn, as what is
// called may; the other one panics.
func randomGoProgram(seed uint64) []byte {
	p := &goProgram{random: rand.New(rand.NewPCG(seed, 1))}
	p.segs = 2 + uint32(p.random.IntN(9))
	p.frame = []int64{0, 8, 16, 48, 200}[p.random.IntN(5)]
	a := newAsm()
	a.memory = []uint32{1, 1}
	a.globals = []string{"\x41\x80\x80\x02"} // the stack pointer, 32768
	a.customs = []custom{goProducers()}
	h := &goProgram{}
	h.constant(opI32Const, goProgramResume)
	h.put(opGlobalGet, 0, opI64Load, 3, 0, opI64Store, 3, 0)
	h.put(opGlobalGet, 0, opI32Const, 8, opI32Add, opGlobalSet, 0)
	helper := string(h.b)
	h.b = nil
	h.constant(opI32Const, goProgramTicks)
	h.put(0x28, 2, 0, opI32Const, 3, 0x70, opI32Eqz) // ticks % 3 == 0
	a.fn("", "i", "i", "", helper+string(h.b))
	h.b = nil
	h.constant(opI32Const, goProgramTicks)
	h.put(opI64Const, 0, opI64Store, 3, 0, opI32Const, 1)
	a.fn("", "i", "i", "", string(h.b))
	a.fn("f", "i", "i", "i"+strings.Repeat("I", goProgramRegisters), p.function())
	a.fn("stack", "", "i", "", "\x23\x00")
	a.exports = append(a.exports, exportEntry{"memory", kindMemory, 0})
	return a.bytes()
}

// goProgramEnd runs a function as the toolchain's scheduler does, until it
// returns or panics, and returns what is left: the memory and the stack
// pointer; nothing if it traps, as a register may point anywhere.
func goProgramEnd(t *testing.T, mod api.Module) ([]byte, uint64) {
	memory := mod.Memory()
	memory.WriteUint64Le(goProgramTicks, 60)
	pc := uint64(0)
	for {
		waits, err := mod.ExportedFunction("f").Call(context.Background(), pc)
		if err != nil && strings.Contains(err.Error(), "out of bounds memory access") {
			return nil, 0
		} else if err != nil {
			t.Fatal(err)
		}
		if ticks, _ := memory.ReadUint64Le(goProgramTicks); waits[0] == 0 || ticks == 0 {
			break
		}
		resume, _ := memory.ReadUint64Le(goProgramResume)
		pc = resume & 0xffff
	}
	all, _ := memory.Read(0, memory.Size())
	return bytes.Clone(all), call(t, mod, "stack")
}

// FuzzGoPrograms: an improved function does what it did before.
func FuzzGoPrograms(f *testing.F) {
	for seed := range uint64(150) {
		f.Add(seed)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(Features))
	f.Cleanup(func() { rt.Close(ctx) })
	if err := InstantiateHost(ctx, rt); err != nil {
		f.Fatal(err)
	}
	end := func(t *testing.T, wasm []byte) ([]byte, uint64) {
		mod, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		defer mod.Close(ctx)
		return goProgramEnd(t, mod)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		wasm := randomGoProgram(seed)
		p, err := parse(wasm)
		if err != nil {
			t.Fatal(err)
		}
		before := p.bodies[2]
		if p.improveGo(); bytes.Equal(before, p.bodies[2]) {
			t.Fatal("the function is not known as the toolchain's")
		}
		out, err := Rewrite(wasm)
		if err != nil {
			t.Fatal(err)
		}
		memory, stack := end(t, wasm)
		memory2, stack2 := end(t, out.Wasm)
		if stack != stack2 {
			t.Errorf("the stack pointer is %d, was %d", stack2, stack)
		}
		if len(memory) != len(memory2) {
			t.Fatalf("one of them traps: %d and %d bytes are left", len(memory), len(memory2))
		}
		for i := range memory {
			if memory[i] != memory2[i] {
				t.Fatalf("byte %d is %d, was %d", i, memory2[i], memory[i])
			}
		}
	})
}

// FuzzGoBodies: whatever is in a function of who claims to be the toolchain,
// what comes of it is valid exactly if it was.
func FuzzGoBodies(f *testing.F) {
	for seed := range uint64(20) {
		p, err := parse(randomGoProgram(seed))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.bodies[2])
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(Features).WithDebugInfoEnabled(false))
	f.Cleanup(func() { rt.Close(ctx) })
	module := func(body []byte) []byte {
		wasm := randomGoProgram(0)
		r := &reader{b: wasm, off: 8}
		out := append([]byte(nil), wasm[:8]...)
		for !r.done() {
			id := r.u8()
			payload := r.take(r.u32())
			if id == secCode {
				p, _ := parse(wasm)
				p.bodies[2] = body
				payload = appendU32(nil, uint32(len(p.bodies)))
				for _, b := range p.bodies {
					payload = append(appendU32(payload, uint32(len(b))), b...)
				}
			}
			out = appendSection(out, id, payload)
		}
		return out
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		wasm := module(body)
		out, err := Rewrite(wasm)
		if err != nil {
			return
		}
		valid := func(wasm []byte) error {
			m, err := rt.CompileModule(ctx, wasm)
			if err == nil {
				err = m.Close(ctx)
			}
			return err
		}
		before, after := valid(wasm), valid(out.Wasm)
		if (before == nil) != (after == nil) {
			t.Errorf("before: %v; after: %v", before, after)
		}
	})
}
