package module

// What the Go toolchain (cmd/internal/obj/wasm) makes of a function suits
// wazero's compiler badly. Its arguments, results and variables are in memory, on
// a stack of its own, and each access is checked against the memory's size,
// unless the compiler has seen the same address checked before; and it sees
// little, because every place where control can continue is entered through one
// table of branches, and every jump too:
//
//	global.get 0  local.set 1              ;; the stack pointer
//	block
//	  loop
//	    block … block  local.get 0  br_table …  end
//	    …  i32.const n  local.set 0  br 1  … end  …
//	  end
//	end
//
// So, in a module that says that this toolchain has made it, functions of
// exactly this form are written anew:
//
//   - A jump ahead becomes a branch, one back stays.
//   - The table keeps the places at which a goroutine can be resumed, which are
//     behind calls (and before that of deferreturn, to which a panic leads), and
//     those to which jumps lead back. The others trap.
//   - What is called under a condition inside of a basic block (sigpanic,
//     morestack) does not come back; if it does, that traps.
//   - The frame is addressed from one base (goflow.go), checked once for all.
//   - The address that a pointer is narrowed to is kept while the pointer is.
//
// The first three trust the toolchain. Who claims to be it and is not gets a
// guest that traps, and nothing else: the result is checked as all code is.

// Global and local variables of the toolchain's functions.
const (
	goStackGlobal = 0
	goResumeLocal = 0 // where to continue
	goStackLocal  = 1
	goReturnBytes = 8 // of the return address, between frame and arguments

	// An address of code is a function's number and, in the low bits, a value of
	// its table.
	goSegmentBits = 16
	goFirstFunc   = 0x1000
)

// goMostEffort bounds what a function may take to write anew: its segments times
// its jumps.
const goMostEffort = 1 << 26

// improveGo writes the functions of the Go toolchain anew.
func (p *parsed) improveGo() {
	g := &goFunction{p: p}
	for i, body := range p.bodies {
		p.bodies[i] = g.improve(uint32(i), body)
	}
}

// goFunction is one function; its slices are used again for the next.
type goFunction struct {
	p      *parsed
	loop   bool     // one is around the table's blocks
	unwind bool     // a block is around all, whose end is the way out to another goroutine
	label  []uint32 // of the table: the segment for each value, the last one for all others
	segs   []goSegment
	jumps  []goJump
	frame  int64 // its bytes; 0 and less: it has none
	first  int64 // the address of its beginning

	nodes []goNode // the segments' new order
	order []uint32 // the same, without its loops
	edits []edit
	arena []byte // of what the edits put in
	flow  goFlow
	scope []goScope
}

// goSegment is the code between the ends of two of the table's blocks.
type goSegment struct {
	from, to int
	resumed  bool // a goroutine may be resumed here
	falls    bool // control may go on to the next one
	back     bool // a jump through the table leads here
	header   bool // a loop of the new order begins here
	seen     bool // the walk has been here
	in       goState
	edits    [2]int // which ones are in it
}

// goJump is a jump inside of the function, or out to another goroutine.
type goJump struct {
	from, to int // what it replaces, from the number on
	branch   int // where its br or br_if is
	source   uint32
	target   uint32 // a segment
	unwinds  bool   // there is no target
	folded   bool   // it is all that an if contains
	table    bool   // it goes through the table, as there is no other way
	depth    uint32 // of ifs around it
}

// edit puts bytes in the place of others.
type edit struct {
	from, to int
	lo, hi   int // in the arena
	jump     int // what comes is this jump; -1: the arena's bytes
}

// improve returns the new form of the body of function f, which does not count
// imported ones, or the body if it has not the form.
func (g *goFunction) improve(f uint32, body []byte) []byte {
	typ := g.p.types[g.p.funcs[g.p.imported+f]]
	g.first = (goFirstFunc + int64(f)) << goSegmentBits
	r, locals, err := readLocals(body, typ)
	if err != nil || string(typ.params) != string([]byte{typeI32}) || string(typ.results) != string([]byte{typeI32}) {
		return body
	}
	decls := &reader{b: body[:locals.raw[1]], off: locals.raw[0]}
	if locals.groups == 0 || decls.u32() == 0 || decls.valueType() != typeI32 {
		return body
	}
	if !g.outline(r, locals.count) || int64(len(g.segs))*int64(len(g.jumps)) > goMostEffort {
		return body
	}
	g.arrange()
	if !g.walk(r, locals.count) {
		return body
	}
	return g.emit(body, locals)
}

// outline finds the table, the segments and the jumps.
func (g *goFunction) outline(r *reader, locals uint32) bool {
	g.loop, g.unwind, g.label, g.segs, g.jumps, g.frame = false, false, g.label[:0], g.segs[:0], g.jumps[:0], 0
	var in [2]instr
	r.next(&in[0])
	r.next(&in[1])
	if in[0].op != opGlobalGet || in[0].index != goStackGlobal || in[1].op != opLocalSet || in[1].index != goStackLocal {
		return false
	}
	return g.readTable(r) && g.readSegments(r, locals)
}

// readTable reads what is before the first segment.
func (g *goFunction) readTable(r *reader) bool {
	var in instr
	blocks, first := 0, r.off
	for r.err == nil {
		r.next(&in)
		switch {
		case in.op == opBlock && in.block == noResult:
			blocks++
		case in.op == opLoop && in.block == noResult && !g.loop && blocks <= 1:
			g.loop, g.unwind, blocks = true, blocks == 1, 0
		case in.op == opLocalGet && in.index == goResumeLocal && blocks > 0:
			return g.readLabels(r, uint32(blocks))
		default: // no table: one segment
			r.off, g.loop, g.unwind = first, false, false
			g.segs = append(g.segs, goSegment{})
			return true
		}
	}
	return false
}

func (g *goFunction) readLabels(r *reader, blocks uint32) bool {
	var in, end instr
	if r.next(&in); in.op != opBrTable || r.err != nil {
		return false
	}
	labels, most := &reader{b: r.b[:r.off], off: in.imm}, uint32(0)
	for n := labels.u32() + 1; n > 0; n-- {
		g.label = append(g.label, labels.u32())
		most = max(most, g.label[len(g.label)-1])
	}
	if !g.loop && blocks > 1 && most == blocks-2 {
		g.unwind = true
		blocks--
	}
	if most >= blocks {
		return false
	}
	for range blocks {
		g.segs = append(g.segs, goSegment{})
	}
	r.next(&end)
	return end.op == opEnd
}

// target is the segment that a value of the resume local leads to.
func (g *goFunction) target(value int64) uint32 {
	return g.label[min(uint64(uint32(value)), uint64(len(g.label)-1))]
}

// goOutline is where the outline is.
type goOutline struct {
	locals uint32   // how many there are
	last   [5]instr // the newest one first, without nops
	value  int64    // of the newest i32.const
	seg    uint32
	depth  uint32 // of ifs
	nth    int    // instruction of the segment
	// called: a call was the last that this segment did; dead: control cannot be here.
	called, dead bool
}

// readSegments reads up to the function's end.
func (g *goFunction) readSegments(r *reader, locals uint32) bool {
	o := goOutline{locals: locals}
	g.segs[0].from = r.off
	for r.err == nil {
		var in instr
		if r.next(&in); in.op == opNop {
			continue
		}
		copy(o.last[1:], o.last[:4])
		o.last[0] = in
		o.nth++
		if in.op == opEnd && o.depth == 0 {
			s := &g.segs[o.seg]
			s.to, s.falls = in.start, !o.dead
			if g.open(o.seg) == 0 {
				return g.readRest(r)
			}
			o.seg++
			g.segs[o.seg] = goSegment{from: r.off, resumed: o.called}
			o.called, o.dead, o.nth = false, false, 0
			continue
		}
		if !g.outlined(r, &o) {
			return false
		}
	}
	return false
}

// outlined looks at one instruction, and says whether the toolchain uses it so.
func (g *goFunction) outlined(r *reader, o *goOutline) bool {
	in, last := &o.last[0], &o.last
	switch in.op {
	case opLocalGet, opLocalSet, opLocalTee:
		if in.index >= o.locals { // one more local would make it one
			return false
		}
	}
	switch in.op {
	case opBlock, opLoop, opTryTable, opReturnCall, opReturnCallIndirect, opThrow, opThrowRef, opBrTable:
		return false
	case opIf:
		o.depth++
		if in.block != noResult {
			return false
		}
	case opElse:
		if o.depth == 0 {
			return false
		}
	case opEnd:
		o.depth--
	case opLocalGet:
		if in.index == goResumeLocal && !(last[1].op == opI32Const && last[2].op == opLocalSet && last[2].index == goResumeLocal) {
			return false
		}
	case opI32Const:
		o.value = (&reader{b: r.b, off: in.imm}).signed(32)
	case opI32Sub:
		if o.nth == 3 && isStack(&last[2]) && last[1].op == opI32Const && o.value == goReturnBytes && o.seg > 0 {
			g.segs[o.seg].resumed = true // deferreturn's, perhaps
		}
	case opCall, opCallIndirect:
		o.called = o.called || o.depth == 0
		return true
	case opBr, opBrIf:
		if !g.branch(r, o) {
			return false
		}
	case opI64Store:
		if seg, ok := g.returns(r.b, &last[1]); ok && o.depth == 0 && isStack(&last[2]) && seg != o.seg+1 {
			return false
		}
	case opGlobalSet:
		if o.seg == 0 && o.depth == 0 && g.frame == 0 && in.index == goStackGlobal {
			g.readFrame(r, o)
		}
	}
	if in.op == opBr || in.op == opReturn || in.op == opUnreachable {
		o.dead = o.dead || o.depth == 0
	}
	if in.op != opBrIf && !reloads(in) {
		o.called = false
	}
	return true
}

// readRest reads what follows the segments.
func (g *goFunction) readRest(r *reader) bool {
	var in instr
	for !r.done() && r.err == nil {
		if r.next(&in); in.op == opLocalGet && in.index == goResumeLocal {
			return false
		}
	}
	return r.err == nil
}

// reloads says whether an instruction is part of global.get 0 local.set 1.
func reloads(in *instr) bool {
	return in.op == opGlobalGet && in.index == goStackGlobal || in.op == opLocalSet && in.index == goStackLocal
}

func isStack(in *instr) bool { return in.op == opLocalGet && in.index == goStackLocal }

// readFrame notes the frame's size where the stack pointer is lowered first,
// unless that is for a call's return address.
func (g *goFunction) readFrame(r *reader, o *goOutline) {
	g.frame = -1
	last := &o.last
	if last[1].op != opLocalTee || last[2].op != opI32Sub || last[3].op != opI32Const || !isStack(&last[4]) || o.value <= 0 {
		return
	}
	ahead, next := *r, [3]instr{}
	for i := range next {
		ahead.next(&next[i])
	}
	if seg, ok := g.returns(r.b, &next[1]); ok && seg == 1 && isStack(&next[0]) && next[2].op == opI64Store {
		return
	}
	g.frame = o.value
}

// returns is the segment that a constant leads to as a return address.
func (g *goFunction) returns(code []byte, in *instr) (seg uint32, ok bool) {
	if in.op != opI64Const || len(g.label) == 0 {
		return 0, false
	}
	address := (&reader{b: code, off: in.imm}).signed(64)
	if address>>goSegmentBits<<goSegmentBits != g.first {
		return 0, false
	}
	return g.target(address - g.first), true
}

// branch looks at a br or br_if, and says whether it is known what it means.
func (g *goFunction) branch(r *reader, o *goOutline) bool {
	in, last := &o.last[0], &o.last
	j := goJump{from: in.start, to: r.off, branch: in.start, source: o.seg, depth: o.depth}
	switch to := int64(in.index) - int64(o.depth) - int64(g.open(o.seg)); {
	case to == 0 && g.loop:
		if in.op != opBr || last[1].op != opLocalSet || last[1].index != goResumeLocal || last[2].op != opI32Const {
			return false
		}
		j.from, j.target = last[2].start, g.target(o.value)
		if last[3].op == opIf && peek(r) == opEnd {
			j.from, j.to, j.folded = last[3].start, r.off+1, true
		}
	case g.unwind && (to == 0 && !g.loop || to == 1 && g.loop):
		j.unwinds = true
	default:
		return false
	}
	g.jumps = append(g.jumps, j)
	return true
}

// peek is the next opcode.
func peek(r *reader) byte {
	if r.off < len(r.b) {
		return r.b[r.off]
	}
	return opUnreachable
}

// open is how many of the table's blocks are open in a segment.
func (g *goFunction) open(seg uint32) uint32 { return uint32(len(g.segs)) - 1 - seg }
