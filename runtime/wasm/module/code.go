package module

// What an instruction costs beside its own unit of fuel. A unit is roughly one
// WebAssembly instruction.
const (
	costCall     = 4   // frames are made and left
	costHostCall = 64  // leaves compiled code and comes back
	costGrow     = 256 // memory.grow and table.grow ask the system for memory
	// bulkShift: memory.fill and its like cost one unit per 32 bytes or entries.
	bulkShift = 5
	// maxLocals bounds what a function may declare (as browsers do), so that no
	// count overflows.
	maxLocals = 50000
)

// The fuel is lowered at three kinds of places.
//
// At a loop's header by what a turn costs, but by no more than mostAhead: a
// function of the Go toolchain is one loop around all of its code, and a turn
// does little of it. At a function's entry likewise, if callgraph.go says so.
// And wherever the work on some path since the last place, for which nobody
// has paid ahead, comes to mostOwed. So what is done between two charges is
// within a small factor of what they take.
const (
	mostAhead = 64
	mostOwed  = 256
)

// patch is a place in a function body where bytes are put in, or replaced.
type patch struct {
	at     int // offset in the body
	skip   int // how many bytes the new ones replace
	kind   patchKind
	val    uint32 // a function index, a label, a loop's slot, a cost, or an opcode's second number
	slot   int    // the loop around it; of patchLabel: which it repeats or leaves
	leaves bool   // of patchLabel: it leads out of the loop
}

type patchKind uint8

const (
	patchFunction patchKind = iota // another function index
	patchCharge                    // lower the fuel by a fixed cost
	patchBulk                      // lower the fuel by the operand on the stack
	patchMemory                    // memory.copy or memory.fill, in pieces
	patchLabel                     // a label to a loop's header or out of it
	patchLoop                      // a loop's header
)

// loop is what scan knows of a loop; slot 0 stands for the function.
type loop struct {
	cost  int64  // of its body without the loops in it
	depth int    // of open blocks, with the loop's own
	typ   [2]int // where its block type is
	end   int    // where its end is
	// split: it has no call, no loop and no parameters in it, and becomes two
	// loops (see appendSplit).
	split bool
	// carried are the locals that its turns hand on.
	carried localSet
}

// block is an open block of a body.
type block struct {
	slot  int   // of the loop that it belongs to
	entry int64 // what was owed at its beginning
	owed  int64 // the most that is owed where control arrives at its end; -1: nowhere
	then  bool  // an if whose else has not come
	loop  bool
}

// dead is what is owed where control cannot be.
const dead = -1

// bodyWriter rewrites function bodies; its slices are reused between them.
type bodyWriter struct {
	p         *parsed
	fuel      uint32 // index of the fuel global
	yield     uint32 // index of the yield function
	room      int    // bytes that copies of loops and locals may still add
	usesData  bool   // some body names a data segment
	growTable bool   // some body grows a table

	patches  []patch
	loops    []loop
	nest     []block
	owed     int64 // the most that is owed here; dead: control cannot be here
	returned int64 // the most that is owed where the function returns
	narrow   bool  // it needs an i32 of its own
	indirect bool  // the body calls through a table outside of loops
	covered  bool  // the entry leads straight to a loop header, which charges for it

	types      [trackedLocals]byte // of the first locals
	steps      []step
	constructs []construct // of findCarried

	calls []uint32 // the functions called outside of loops, without the imported ones

	// By function; the result of plan.
	charged []bool  // it is charged on entry
	bounds  []int64 // the work that callers pay for
	extent  extent  // of the body that scan has read
	pieces  pieces
}

// rewrite appends the new form of the body (without its size) of function f to
// dst. plan has run.
func (w *bodyWriter) rewrite(dst, body []byte, f uint32) ([]byte, error) {
	r, locals, err := readLocals(body, w.p.types[w.p.funcs[f]])
	if err != nil {
		return nil, err
	}
	if err := w.scan(r, locals.count); err != nil {
		return nil, err
	}
	w.findCarried()
	w.types = locals.types
	code := locals.raw[1]
	if w.charged[f] {
		w.patches = append(w.patches, patch{})
		copy(w.patches[1:], w.patches)
		w.patches[0] = patch{at: code, kind: patchCharge, val: uint32(min(mostAhead, w.loops[0].cost))}
	}
	groups := locals.groups
	if w.narrow {
		groups++
	}
	dst = appendU32(dst, uint32(groups))
	dst = append(dst, body[locals.raw[0]:code]...)
	if w.narrow {
		dst = append(dst, 1, typeI32)
	}
	return w.splice(dst, body, code, locals.count), nil
}

// scan walks over the code once and notes where the rewrite changes it.
func (w *bodyWriter) scan(r *reader, locals uint32) error {
	w.patches, w.loops, w.nest = w.patches[:0], append(w.loops[:0], loop{depth: 1}), append(w.nest[:0], block{owed: dead})
	w.calls, w.steps = w.calls[:0], w.steps[:0]
	w.narrow, w.indirect, w.covered = false, false, false
	w.owed, w.returned, w.extent = 0, 0, extent{locals: int64(locals)}
	straight := true // nothing so far could have left the entry's path
	var in instr
	for r.err == nil && len(w.nest) > 0 {
		r.next(&in)
		slot := w.nest[len(w.nest)-1].slot
		w.pay(slot, 1)
		switch in.op {
		case opBlock, opIf, opTryTable:
			straight = straight && in.op == opBlock
			w.open(r, &in, slot)
		case opElse:
			w.otherwise()
		case opLoop:
			w.covered, straight = w.covered || straight, false
			w.openLoop(r, &in, slot)
		case opEnd:
			w.close(slot, in.start)
		case opBr, opBrIf, opBrTable:
			straight = false
			w.branch(r, &in, slot)
		case opUnreachable, opThrow, opThrowRef:
			straight, w.owed = false, dead
			w.step(stepStop, 0)
		case opReturn:
			straight = false
			w.leave()
			w.step(stepStop, 0)
		default:
			if w.operand(r, &in, slot, locals) {
				straight = false
			}
		}
		if w.owed >= mostOwed && len(w.nest) > 0 {
			w.patches = append(w.patches, patch{at: r.off, kind: patchCharge, val: uint32(w.owed), slot: w.nest[len(w.nest)-1].slot})
			w.owed = 0
		}
	}
	if r.err == nil && !r.done() {
		return invalid("a function has %d bytes behind its end", len(r.b)-r.off)
	}
	if err := r.failure(); err != nil {
		return err
	}
	return w.extent.check()
}

// pay notes work that is done here.
func (w *bodyWriter) pay(slot int, cost int64) {
	w.loops[slot].cost += cost
	if w.owed != dead {
		w.owed += cost
	}
}

// leave is a return.
func (w *bodyWriter) leave() {
	w.returned = max(w.returned, w.owed)
	w.owed = dead
}

func (w *bodyWriter) open(r *reader, in *instr, slot int) {
	w.checkBlock(r, in)
	w.extent.blocks++
	w.step(stepOf(in.op == opIf, stepIf, stepOpen), 0)
	w.nest = append(w.nest, block{slot: slot, entry: w.owed, owed: dead, then: in.op == opIf})
	if in.op != opTryTable {
		return
	}
	w.loops[slot].split = false
	clauses := &reader{b: r.b[:r.off], off: in.imm}
	clauses.signed(33)
	clauses.catches(func(label uint32) {
		// Something may be thrown anywhere; labels count without the new block.
		w.arrive(label+1, mostOwed)
	})
}

// arrive notes that control goes to a label with so much owed.
func (w *bodyWriter) arrive(label uint32, owed int64) {
	w.step(stepJump, label)
	if int64(label) >= int64(len(w.nest)) {
		return // invalid, as wazero will say
	}
	to := &w.nest[len(w.nest)-1-int(label)]
	to.owed = max(to.owed, owed)
}

func (w *bodyWriter) otherwise() {
	w.step(stepElse, 0)
	b := &w.nest[len(w.nest)-1]
	b.owed = max(b.owed, w.owed)
	b.then, w.owed = false, b.entry
}

func (w *bodyWriter) close(slot, at int) {
	b := w.nest[len(w.nest)-1]
	if len(w.nest) == w.loops[slot].depth {
		w.loops[slot].end = at
	}
	w.nest = w.nest[:len(w.nest)-1]
	w.extent.leave(b.loop)
	w.step(stepOf(b.loop, stepEndLoop, stepEnd), 0)
	if !b.loop { // who goes to a loop's label is at its beginning
		w.owed = max(w.owed, b.owed)
	}
	if b.then {
		w.owed = max(w.owed, b.entry)
	}
	if len(w.nest) == 0 {
		w.leave()
	}
}

func (w *bodyWriter) openLoop(r *reader, in *instr, outer int) {
	w.checkBlock(r, in)
	w.extent.enter()
	w.loops[outer].split = false
	slot := len(w.loops)
	w.step(stepLoop, uint32(slot))
	w.nest = append(w.nest, block{slot: slot, entry: w.owed, owed: dead, loop: true})
	l := loop{cost: 1, depth: len(w.nest), typ: [2]int{in.imm, r.off}}
	l.split = in.block < 0 || r.err == nil && len(w.p.types[in.block].params) == 0
	w.loops = append(w.loops, l)
	w.patches = append(w.patches, patch{at: in.start, kind: patchLoop, val: uint32(slot)})
}

// branch notes the labels that repeat or leave a loop that may be split.
func (w *bodyWriter) branch(r *reader, in *instr, slot int) {
	if r.err != nil {
		return
	}
	l := w.loops[slot]
	labels, n := &reader{b: r.b[:r.off], off: in.imm}, uint32(1)
	if in.op == opBrTable {
		n = labels.u32() + 1
	}
	inside := uint32(len(w.nest) - l.depth)
	for ; n > 0; n-- {
		at := labels.off
		label := labels.u32()
		w.arrive(label, w.owed)
		if l.split && label >= inside {
			w.patches = append(w.patches, patch{at: at, skip: labels.off - at, kind: patchLabel, val: label, slot: slot, leaves: label > inside})
		}
	}
	if in.op != opBrIf {
		w.owed = dead
		w.step(stepStop, 0)
	}
}

func (w *bodyWriter) checkBlock(r *reader, in *instr) {
	if in.block >= int64(len(w.p.types)) {
		r.fail("a block has unknown type %d", in.block)
	}
}

// operand looks at an instruction that is no block or branch. It checks every
// index that could name what only the rewriter adds: a guest that reached the
// fuel global could escape its limits. It says whether control can leave.
func (w *bodyWriter) operand(r *reader, in *instr, slot int, locals uint32) (leaves bool) {
	switch in.op {
	case opLocalGet, opLocalGet + 1, opLocalTee:
		if in.index >= locals {
			r.fail("a function names unknown local %d", in.index)
		}
		if in.index < trackedLocals {
			w.step(stepOf(in.op == opLocalGet, stepGet, stepSet), in.index)
		}
	case opGlobalGet, opGlobalSet:
		if in.index >= w.p.globals {
			r.fail("a function names unknown global %d", in.index)
		}
	case opCall, opReturnCall, opRefFunc:
		return w.function(r, in, slot)
	case opCallIndirect, opReturnCallIndirect:
		if int(in.index) >= len(w.p.types) {
			r.fail("an indirect call has unknown type %d", in.index)
		}
		w.indirect = w.indirect || slot == 0
		w.call(slot, costCall+mostUncharged, in.op == opReturnCallIndirect)
		return true
	case opMemoryGrow:
		w.pay(slot, costGrow)
	case opMisc:
		w.misc(r, in, slot)
	}
	return false
}

func (w *bodyWriter) function(r *reader, in *instr, slot int) (leaves bool) {
	if int(in.index) >= len(w.p.funcs) {
		r.fail("a function names unknown function %d", in.index)
		return false
	}
	if in.index >= w.p.imported {
		w.patches = append(w.patches, patch{at: in.imm, skip: r.off - in.imm, kind: patchFunction, val: in.index + 1})
	}
	switch {
	case in.op == opRefFunc:
		return false
	case in.index < w.p.imported:
		w.call(slot, costCall+costHostCall, in.op == opReturnCall)
	default:
		if slot == 0 {
			w.calls = append(w.calls, in.index-w.p.imported)
		}
		w.call(slot, costCall+w.bounds[in.index], in.op == opReturnCall)
	}
	return true
}

func (w *bodyWriter) call(slot int, cost int64, returns bool) {
	w.pay(slot, cost)
	w.loops[slot].split = false
	if returns {
		w.leave()
		w.step(stepStop, 0)
	}
}

func (w *bodyWriter) misc(r *reader, in *instr, slot int) {
	switch in.sub {
	case miscMemoryCopy, miscMemoryFill:
		if !in.firstMemory(r) {
			r.fail("memory.copy or memory.fill names another memory than the first, or not in one byte")
			return
		}
		w.patches = append(w.patches, patch{at: in.start, skip: r.off - in.start, kind: patchMemory, val: in.sub})
		w.narrow = true
		w.loops[slot].split = false // it will call yield
	case miscMemoryInit, miscTableInit, miscTableCopy, miscTableFill, miscTableGrow:
		// All of these have their length, an i32, on top of the stack;
		// table.fill and table.grow as well. Segments and tables are small.
		w.patches = append(w.patches, patch{at: in.start, kind: patchBulk})
		w.narrow = true
		w.loops[slot].split = false
	}
	switch in.sub {
	case miscMemoryInit, miscDataDrop:
		w.usesData = true
	case miscTableGrow:
		w.growTable = true
		w.pay(slot, costGrow)
	}
}
