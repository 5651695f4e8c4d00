package module

// What an instruction costs beside its own unit of fuel. A unit is roughly one
// WebAssembly instruction.
const (
	costCall     = 4   // frames are made and left
	costHostCall = 64  // leaves compiled code and comes back
	costGrow     = 256 // memory.grow and table.grow ask the system for memory
	// leafCost is the cost up to which a function that calls nothing is not
	// charged on entry; its callers' charges bound it.
	leafCost = 64
	// bulkShift: memory.fill and its like cost one unit per 32 bytes or entries.
	bulkShift = 5
	// maxLocals bounds what a function may declare (as browsers do), so that no
	// count overflows.
	maxLocals = 50000
)

// patch is a place in a function body where bytes are put in, or replaced.
type patch struct {
	at   int // offset in the body
	skip int // how many bytes the new ones replace
	kind patchKind
	val  uint32 // a function index, a label, or a loop's slot
	slot int    // of patchLabel: the loop that it leaves
}

type patchKind uint8

const (
	patchFunction patchKind = iota // another function index
	patchCharge                    // lower the fuel by a fixed cost
	patchBulk                      // lower the fuel by the operand on the stack
	patchLabel                     // a label outside of a loop, one further if that is split
	patchLoop                      // a loop's header
	patchEnd                       // a loop's end
)

// loop is what scan knows of a loop; slot 0 stands for the function.
type loop struct {
	cost  int64  // of its body without the loops in it
	depth int    // of open blocks, with the loop's own
	typ   [2]int // where its block type is
	// split: it has no call, no loop and no parameters in it, and becomes two
	// loops (see appendSplit).
	split bool
}

// bodyWriter rewrites function bodies; its slices are reused between them.
type bodyWriter struct {
	p         *parsed
	fuel      uint32 // index of the fuel global
	yield     uint32 // index of the yield function
	usesData  bool   // some body names a data segment
	growTable bool   // some body grows a table
	patches   []patch
	loops     []loop
	nest      []int // the slot of loops that each open block belongs to
	calls     bool
	bulk      bool
	covered   bool // the entry leads straight to a loop header, which charges for it
}

// rewrite appends the new form of a body (without its size) to dst.
func (w *bodyWriter) rewrite(dst, body []byte, typ funcType) ([]byte, error) {
	r := &reader{b: body}
	groups := r.count("locals")
	groupsEnd := r.off
	locals := uint64(len(typ.params))
	for i := 0; i < groups && r.err == nil; i++ {
		locals += uint64(r.u32())
		r.valueType()
		if locals > maxLocals {
			return nil, invalid("a function has more than %d locals, which is more than is supported", maxLocals)
		}
	}
	code := r.off
	if err := w.scan(r, uint32(locals)); err != nil {
		return nil, err
	}
	if w.calls && !w.covered || w.loops[0].cost > leafCost {
		w.patches = append(w.patches, patch{})
		copy(w.patches[1:], w.patches)
		w.patches[0] = patch{at: code, kind: patchCharge}
	} else if len(w.loops) > 1 {
		w.loops[1].cost += w.loops[0].cost
	}
	charges := len(w.loops) > 1 || w.bulk || len(w.patches) > 0 && w.patches[0].kind == patchCharge
	extra := 0
	if charges {
		extra++
	}
	if w.bulk {
		extra++
	}
	dst = appendU32(dst, uint32(groups+extra))
	dst = append(dst, body[groupsEnd:code]...)
	if charges {
		dst = append(dst, 1, typeI64)
	}
	if w.bulk {
		dst = append(dst, 1, typeI32)
	}
	return w.splice(dst, body, code, uint32(locals)), nil
}

// scan walks over the code once and notes where the rewrite changes it.
func (w *bodyWriter) scan(r *reader, locals uint32) error {
	w.patches, w.loops, w.nest = w.patches[:0], append(w.loops[:0], loop{depth: 1}), append(w.nest[:0], 0)
	w.calls, w.bulk, w.covered = false, false, false
	straight := true // nothing so far could have left the entry's path
	var in instr
	for r.err == nil && len(w.nest) > 0 {
		r.next(&in)
		slot := w.nest[len(w.nest)-1]
		w.loops[slot].cost++
		switch in.op {
		case opBlock, opIf, opTryTable:
			w.nest = append(w.nest, slot)
			straight = straight && in.op == opBlock
			if in.op == opTryTable {
				w.loops[slot].split = false
			}
			w.checkBlock(r, &in)
		case opLoop:
			if straight {
				w.covered, straight = true, false
			}
			w.openLoop(r, &in, slot)
		case opEnd:
			if slot > 0 && len(w.nest) == w.loops[slot].depth {
				w.patches = append(w.patches, patch{at: r.off, kind: patchEnd, val: uint32(slot)})
			}
			w.nest = w.nest[:len(w.nest)-1]
		case opBr, opBrIf, opBrTable:
			straight = false
			w.branch(r, &in, slot)
		case opReturn, opThrow, opThrowRef:
			straight = false
		default:
			if w.operand(r, &in, slot, locals) {
				straight = false
			}
		}
	}
	if r.err == nil && !r.done() {
		return invalid("a function has %d bytes behind its end", len(r.b)-r.off)
	}
	return r.failure()
}

func (w *bodyWriter) openLoop(r *reader, in *instr, outer int) {
	w.checkBlock(r, in)
	w.loops[outer].split = false
	slot := len(w.loops)
	w.nest = append(w.nest, slot)
	l := loop{cost: 1, depth: len(w.nest), typ: [2]int{in.imm, r.off}}
	l.split = in.block < 0 || r.err == nil && len(w.p.types[in.block].params) == 0
	w.loops = append(w.loops, l)
	w.patches = append(w.patches, patch{at: r.off, kind: patchLoop, val: uint32(slot)})
}

// branch notes the labels that lead out of a loop that may be split.
func (w *bodyWriter) branch(r *reader, in *instr, slot int) {
	l := w.loops[slot]
	if !l.split || r.err != nil {
		return
	}
	labels, n := &reader{b: r.b[:r.off], off: in.imm}, uint32(1)
	if in.op == opBrTable {
		n = labels.u32() + 1
	}
	inside := uint32(len(w.nest) - l.depth)
	for ; n > 0; n-- {
		at := labels.off
		if label := labels.u32(); label > inside {
			w.patches = append(w.patches, patch{at: at, skip: labels.off - at, kind: patchLabel, val: label, slot: slot})
		}
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
		w.call(slot, costCall)
		return true
	case opMemoryGrow:
		w.loops[slot].cost += costGrow
	case opMisc:
		w.misc(in, slot)
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
	if in.op == opRefFunc {
		return false
	}
	w.call(slot, costCall)
	if in.index < w.p.imported {
		w.loops[slot].cost += costHostCall
	}
	return true
}

func (w *bodyWriter) call(slot int, cost int64) {
	w.loops[slot].cost += cost
	w.loops[slot].split = false
	w.calls = true
}

func (w *bodyWriter) misc(in *instr, slot int) {
	switch in.sub {
	case miscMemoryInit, miscMemoryCopy, miscMemoryFill, miscTableInit, miscTableCopy, miscTableFill, miscTableGrow:
		// All of these have their length, an i32, on top of the stack;
		// table.fill and table.grow as well.
		w.patches = append(w.patches, patch{at: in.start, kind: patchBulk})
		w.bulk = true
		w.loops[slot].split = false // it will call yield
	}
	switch in.sub {
	case miscMemoryInit, miscDataDrop:
		w.usesData = true
	case miscTableGrow:
		w.growTable = true
		w.loops[slot].cost += costGrow
	}
}

// splice copies the code from offset from with all patches applied. The
// scratch locals follow the function's own: an i64, then an i32.
func (w *bodyWriter) splice(dst, body []byte, from int, scratch uint32) []byte {
	for _, c := range w.patches {
		dst = append(dst, body[from:c.at]...)
		from = c.at + c.skip
		switch c.kind {
		case patchFunction:
			dst = appendU32(dst, c.val)
		case patchCharge:
			dst = w.appendCharge(dst, 0, scratch)
		case patchLoop:
			if w.splits(int(c.val)) {
				dst = w.appendSplit(dst, body, w.loops[c.val], scratch)
			} else {
				dst = w.appendCharge(dst, c.val, scratch)
			}
		case patchLabel:
			if w.splits(c.slot) {
				c.val++
			}
			dst = appendU32(dst, c.val)
		case patchEnd:
			if w.splits(int(c.val)) {
				dst = append(dst, opEnd)
			}
		case patchBulk:
			dst = appendU32(append(dst, opLocalTee), scratch+1)
			dst = appendU32(append(dst, opGlobalGet), w.fuel)
			dst = appendU32(append(dst, opLocalGet), scratch+1)
			dst = append(dst, opI64ExtendI32U, opI64Const, bulkShift, opI64ShrU)
			dst = w.appendCheck(dst, scratch)
		}
	}
	return append(dst, body[from:]...)
}

// splits says whether a loop becomes two. One that costs more than a quantum
// could never begin.
func (w *bodyWriter) splits(slot int) bool {
	return w.loops[slot].split && w.loops[slot].cost < quantum/2
}

// appendSplit goes behind a loop's header and makes it two, so that the inner
// one, which does the work, has no call in it: calls cost wazero's compiler
// the registers in which it keeps the memory's address and the loop's values.
//
//	loop  fuel < 0: fuel = yield(fuel)
//	  loop  fuel -= cost; fuel < 0: br 1
//	    …
//	  end
//	end
func (w *bodyWriter) appendSplit(dst, body []byte, l loop, scratch uint32) []byte {
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = append(dst, opI64Const, 0, opI64LtS, opIf, typeEmpty)
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = appendU32(append(dst, opCall), w.yield)
	dst = appendU32(append(dst, opGlobalSet), w.fuel)
	dst = append(append(dst, opEnd, opLoop), body[l.typ[0]:l.typ[1]]...)
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = appendSigned(append(dst, opI64Const), l.cost)
	dst = appendU32(append(dst, opI64Sub, opLocalTee), scratch)
	dst = appendU32(append(dst, opGlobalSet), w.fuel)
	dst = appendU32(append(dst, opLocalGet), scratch)
	return append(dst, opI64Const, 0, opI64LtS, opBrIf, 1)
}

func (w *bodyWriter) appendCharge(dst []byte, slot, scratch uint32) []byte {
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = appendSigned(append(dst, opI64Const), w.loops[slot].cost)
	return w.appendCheck(dst, scratch)
}

// appendCheck subtracts and, below zero, calls yield for new fuel. It takes two
// numbers from the stack and leaves nothing:
//
//	i64.sub  local.tee t  global.set fuel
//	local.get t  i64.const 0  i64.lt_s
//	if  local.get t  call yield  global.set fuel  end
func (w *bodyWriter) appendCheck(dst []byte, scratch uint32) []byte {
	dst = appendU32(append(dst, opI64Sub, opLocalTee), scratch)
	dst = appendU32(append(dst, opGlobalSet), w.fuel)
	dst = appendU32(append(dst, opLocalGet), scratch)
	dst = append(dst, opI64Const, 0, opI64LtS, opIf, typeEmpty)
	dst = appendU32(append(dst, opLocalGet), scratch)
	dst = appendU32(append(dst, opCall), w.yield)
	dst = appendU32(append(dst, opGlobalSet), w.fuel)
	return append(dst, opEnd)
}
