package module

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Functions of a module that have to do with snapshots.
const (
	// ResumeFunction is called in each instance that starts from a snapshot,
	// before anything else. A module that exports it may look at the clock,
	// randomness, arguments and environment while it is initialised (there are
	// none of the latter two), and has to make up for it here.
	ResumeFunction = "wherry_resume"
	initFunction   = "_initialize"
)

// hooks are what initialises a module for a snapshot, behind _initialize: our
// name and that of Wizer, whose modules so work unchanged.
var hooks = [...]string{"wherry_snapshot", "wizer.initialize"}

const (
	// snapshotTime bounds the initialisation, which begins when the module is
	// compiled.
	snapshotTime = 30 * time.Second
	// snapshotPages bounds its memory, 512 MiB.
	snapshotPages = imageMaxBytes / PageSize
	// captured is how globals are exported to be read.
	captured = "wherry.captured."
)

// Snapshot initialises a module once and returns a module that begins where
// that has ended: with its memory and its globals, and without the functions
// that initialise. An *InvalidError says why that is not possible or not safe.
func Snapshot(ctx context.Context, wasm []byte) ([]byte, error) {
	p, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	run := p.initializers()
	if len(run) == 0 {
		return nil, invalid("no snapshot: the module exports neither %s nor %s; export one of them, or start it without a snapshot",
			initFunction, strings.Join(hooks[:], " nor "))
	}
	globals, err := p.capturable(wasm)
	if err != nil {
		return nil, err
	}
	state, err := p.initialize(ctx, wasm, run, globals)
	if err != nil {
		return nil, err
	}
	return p.withState(wasm, state, append(run, initFunction))
}

// initializers are the functions to call, in order.
func (p *parsed) initializers() (run []string) {
	for _, name := range append([]string{initFunction}, hooks[:]...) {
		if slices.ContainsFunc(p.exports, func(e exportEntry) bool { return e.kind == kindFunction && e.name == name }) {
			run = append(run, name)
		}
	}
	return run
}

func (p *parsed) exportsFunction(name string) bool {
	return slices.ContainsFunc(p.exports, func(e exportEntry) bool { return e.kind == kindFunction && e.name == name })
}

// capturable returns the mutable globals and refuses state that cannot be
// captured: what is in tables, in segments and in globals of other types.
func (p *parsed) capturable(wasm []byte) (mutable []uint32, _ error) {
	for _, e := range p.imports {
		if e.kind != kindFunction {
			return nil, invalid("no snapshot: the module imports the %s %s.%s", kindName(e.kind), e.module, e.name)
		}
	}
	for _, body := range p.bodies {
		r, _, err := readLocals(body, funcType{})
		if err != nil {
			return nil, err
		}
		var in instr
		for r.err == nil && !r.done() {
			r.next(&in)
			switch {
			case in.op == opTableSet, in.op == opMisc && in.sub >= miscTableInit && in.sub <= miscTableFill && in.sub != miscTableSize:
				return nil, invalid("no snapshot: the module changes tables while it runs, which a snapshot cannot hold; start it without one")
			case in.op == opMisc && (in.sub == miscMemoryInit || in.sub == miscDataDrop):
				return nil, invalid("no snapshot: the module uses passive data segments (threads or -mbulk-memory), which a snapshot cannot hold; start it without one")
			}
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	r := &reader{b: p.globalRaw}
	for i := uint32(0); i < p.globals && r.err == nil; i++ {
		typ, changes := r.valueType(), r.u8()
		r.constant()
		if changes == 0 {
			continue
		}
		if typ < 0x7c || typ > typeI32 {
			return nil, invalid("no snapshot: the module has a global of a type that cannot be captured")
		}
		mutable = append(mutable, i)
	}
	return mutable, r.failure()
}

// state is what an initialised module holds.
type state struct {
	memory  []byte
	globals map[uint32]uint64
}

// initialize runs the module's initialisation where it can touch nothing.
func (p *parsed) initialize(ctx context.Context, wasm []byte, run []string, globals []uint32) (*state, error) {
	opened, err := rewriteSections(wasm, func(id byte, payload []byte) ([]byte, bool, error) {
		if id != secExport {
			return payload, true, nil
		}
		r := &reader{b: payload}
		n := r.count("exports")
		out := append(appendU32(nil, uint32(n+len(globals)+1)), payload[r.off:]...)
		for _, g := range globals {
			out = appendU32(append(appendName(out, captured+fmt.Sprint(g)), kindGlobal), g)
		}
		return append(appendName(out, captured+"memory"), kindMemory, 0), true, nil
	})
	if err != nil {
		return nil, err
	}
	if len(p.memories) == 0 {
		return nil, invalid("no snapshot: the module has no memory")
	}
	out, err := rewrite(opened, true)
	if err != nil {
		return nil, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig().WithMemoryLimitPages(snapshotPages))
	defer rt.Close(context.WithoutCancel(ctx))
	calls := &initCalls{free: p.exportsFunction(ResumeFunction)}
	if err := InstantiateHost(ctx, rt); err != nil {
		return nil, err
	}
	if err := calls.offer(ctx, rt, p); err != nil {
		return nil, err
	}
	compiled, err := rt.CompileModule(ctx, out.Wasm)
	if err != nil {
		return nil, invalid("no snapshot: the module cannot be compiled: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	meter := NewMeter(0)
	defer context.AfterFunc(ctx, meter.Kill)()
	ctx = WithMeter(ctx, meter)
	mod, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	for i := 0; err == nil && i < len(run); i++ {
		_, err = mod.ExportedFunction(run[i]).Call(ctx)
	}
	switch {
	case calls.refused != "":
		return nil, invalid("no snapshot: %s; start it without one, or export %s, which sees to it in each instance", calls.refused, ResumeFunction)
	case meter.Killed():
		return nil, invalid("no snapshot: the module was not initialised within %v", snapshotTime)
	case err != nil:
		return nil, invalid("no snapshot: the initialisation has failed: %v", err)
	}
	return capture(mod, globals), nil
}

func capture(mod api.Module, globals []uint32) *state {
	s := &state{globals: map[uint32]uint64{}}
	view, _ := mod.Memory().Read(0, mod.Memory().Size())
	s.memory = slices.Clone(view)
	for _, g := range globals {
		s.globals[g] = mod.ExportedGlobal(captured + fmt.Sprint(g)).Get()
	}
	return s
}

// withState writes the module with other initial values.
func (p *parsed) withState(wasm []byte, s *state, drop []string) ([]byte, error) {
	data := s.segments()
	wrote := false
	out, err := rewriteSections(wasm, func(id byte, payload []byte) ([]byte, bool, error) {
		switch id {
		case secMemory:
			l := p.memories[0]
			l.min = uint32(len(s.memory) / PageSize)
			return appendLimits([]byte{1}, l), true, nil
		case secGlobal:
			return s.globalSection(payload)
		case secExport:
			kept := slices.DeleteFunc(slices.Clone(p.exports), func(e exportEntry) bool { return e.kind == kindFunction && slices.Contains(drop, e.name) })
			b := appendU32(nil, uint32(len(kept)))
			for _, e := range kept {
				b = appendU32(append(appendName(b, e.name), e.kind), e.index)
			}
			return b, true, nil
		case secStart, secDataCount: // it has run; nothing names segments
			return nil, false, nil
		case secData:
			wrote = true
			return data, true, nil
		}
		return payload, true, nil
	})
	if err == nil && !wrote {
		out = appendSection(out, secData, data)
	}
	return out, err
}

// globalSection gives mutable globals their captured values.
func (s *state) globalSection(payload []byte) ([]byte, bool, error) {
	r := &reader{b: payload}
	n := r.count("globals")
	out := appendU32(nil, uint32(n))
	for i := range uint32(n) {
		from := r.off
		typ, changes := r.valueType(), r.u8()
		r.constant()
		value, ok := s.globals[i]
		if !ok {
			out = append(out, payload[from:r.off]...)
			continue
		}
		out = append(out, typ, changes)
		switch typ {
		case typeI32:
			out = appendSigned(append(out, opI32Const), int64(int32(value)))
		case typeI64:
			out = appendSigned(append(out, opI64Const), int64(value))
		case typeF32:
			out = append(out, opF32Const, byte(value), byte(value>>8), byte(value>>16), byte(value>>24))
		case typeF64:
			out = append(out, opF64Const)
			for shift := 0; shift < 64; shift += 8 {
				out = append(out, byte(value>>shift))
			}
		}
		out = append(out, opEnd)
	}
	return out, true, r.failure()
}

// segments writes the memory as data, without long runs of zeros.
func (s *state) segments() []byte {
	const block = 256
	var segments []byte
	count := uint32(0)
	for from := 0; from < len(s.memory); {
		if allZeros(s.memory[from : from+block]) {
			from += block
			continue
		}
		to := from
		for to < len(s.memory) && !allZeros(s.memory[to:to+block]) {
			to += block
		}
		segments = appendSigned(append(segments, 0, opI32Const), int64(int32(uint32(from))))
		segments = append(appendU32(append(segments, opEnd), uint32(to-from)), s.memory[from:to]...)
		count++
		from = to
	}
	return append(appendU32(nil, count), segments...)
}

func allZeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// rewriteSections copies a module, each section as change gives it back.
func rewriteSections(wasm []byte, change func(id byte, payload []byte) (_ []byte, keep bool, _ error)) ([]byte, error) {
	r := &reader{b: wasm, off: 8}
	out := slices.Clone(wasm[:8])
	for !r.done() && r.err == nil {
		id := r.u8()
		payload := r.take(r.u32())
		if r.err != nil {
			break
		}
		changed, keep, err := change(id, payload)
		if err != nil {
			return nil, err
		}
		if keep {
			out = appendSection(out, id, changed)
		}
	}
	return out, r.failure()
}
