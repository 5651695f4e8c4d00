package module

import "slices"

// The walk over a function of the Go toolchain. The frame has one base: the
// lowest address that the function uses itself, that of the return address of
// what it calls. It is set behind the prologue, and where the goroutine's stack
// may have moved, which is behind calls. Whatever is at the stack pointer plus a
// constant is at the base plus another one, and where the base is set, one look
// at the highest such address is a check for all.

// goState is what is known at a place of a function.
type goState struct {
	live  bool  // control can be here
	base  bool  // the base has been set, or will be, if stale
	stale bool  // the stack pointer has been read anew since
	above int64 // the stack pointer less the base
	// narrow has a bit for each of the first 64 locals: what its value is
	// narrowed to is in a local of its own.
	narrow uint64
}

// meet is what is known where two ways come together; false if they disagree.
func (s goState) meet(o goState) (goState, bool) {
	switch {
	case !s.live:
		return o, true
	case !o.live:
		return s, true
	}
	s.narrow &= o.narrow
	return s, s.base == o.base && s.stale == o.stale && s.above == o.above
}

// goOperand is a value on the operand stack.
type goOperand struct {
	kind     goKind
	value    int64 // of a constant; a local's index; what is added to the stack pointer
	from, to int   // the code that has made it
	above    int64 // of the state then
	set      int   // how often the base had been set then
}

type goKind uint8

const (
	goOther    goKind = iota
	goLocal           // local.get
	goConstant        // i32.const or i64.const
	goStack           // the stack pointer, plus value
	goWide            // the same as an i64
	goMoved           // the stack pointer, plus value, to be the stack pointer
	goReloaded        // global.get 0
)

// goNest is an open if.
type goNest struct {
	before, then goState
	height       int // of the operand stack
	otherwise    bool
}

// goFlow is where the walk is.
type goFlow struct {
	goState
	seg      uint32
	nest     []goNest
	stack    []goOperand
	pushed   bool // a return address has been pushed
	prologue bool // the stack pointer has just been lowered by the frame
	set      int  // how often the base has been set
	base     uint32
	narrowed [64]uint32 // the locals of goState.narrow; 0: none yet
	locals   uint32     // with those that have been added
	high     int64      // what is used above the base, in bytes
	probes   []goProbe
	places   [2]uint32 // locals for where bulk writes and reads; 0: none yet
	failed   bool
}

// goProbe is where a check for the whole frame may go.
type goProbe struct {
	edit int // of g.edits
	uses int // of the base behind it, up to the next probe
}

// walk notes how a function changes, segment by segment in their new order;
// false if something in it is not as the toolchain writes it.
func (g *goFunction) walk(r *reader, locals uint32) bool {
	f := &g.flow
	*f = goFlow{nest: f.nest[:0], stack: f.stack[:0], probes: f.probes[:0], base: goStackLocal, locals: locals}
	g.edits, g.arena = g.edits[:0], g.arena[:0]
	first := &g.segs[0].in
	first.live = true
	if g.frame > 0 {
		first.above, f.base = g.frame+goReturnBytes, f.local()
	} else {
		first.base = true
	}
	var in instr
	for _, s := range g.order {
		seg := &g.segs[s]
		r.off = seg.from
		for g.enter(s); r.err == nil && !f.failed; g.step(r, &in) {
			if r.next(&in); in.start >= seg.to {
				break
			}
		}
		if r.err != nil || f.failed || len(f.nest) > 0 {
			return false
		}
		if f.live && int(s)+1 < len(g.segs) {
			g.arrive(s + 1)
		}
		if len(f.stack) > 0 && f.live || f.failed {
			return false
		}
	}
	return true
}

// local is a new local.
func (f *goFlow) local() uint32 {
	f.locals++
	return f.locals - 1
}

func (g *goFunction) fail() { g.flow.failed = true }

// put notes that bytes come in the place of others.
func (g *goFunction) put(from, to int, b ...byte) {
	lo := len(g.arena)
	g.arena = append(g.arena, b...)
	g.edits = append(g.edits, edit{from: from, to: to, lo: lo, hi: len(g.arena), jump: -1})
}

// enter begins a segment.
func (g *goFunction) enter(s uint32) {
	f, seg := &g.flow, &g.segs[s]
	f.stack, f.seg, f.pushed = f.stack[:0], s, false
	if !seg.in.live { // only the table leads here
		seg.in = goState{live: true, base: true}
		if g.frame > 0 {
			seg.in.above = goReturnBytes
		}
	}
	if seg.resumed || seg.back || seg.header {
		seg.in.narrow = 0
	}
	seg.seen = true
	switch f.goState = seg.in; {
	case seg.resumed:
		g.setBase(seg.from)
	case seg.back, seg.header, s == 0:
		f.set++
		g.probe(seg.from)
	}
}

// arrive is a way to another segment.
func (g *goFunction) arrive(s uint32) {
	f, seg := &g.flow, &g.segs[s]
	state := f.goState
	if seg.resumed {
		state.stale = false
	}
	met, ok := seg.in.meet(state)
	if !ok || met.stale || seg.seen && met != seg.in {
		g.fail()
	}
	seg.in = met
}

// setBase puts code that computes the base anew.
func (g *goFunction) setBase(at int) {
	f := &g.flow
	f.stale = false
	if !f.goState.base {
		return
	}
	f.set++
	if f.base != goStackLocal {
		b := appendSigned([]byte{opLocalGet, goStackLocal, opI32Const}, f.above)
		g.put(at, at, appendU32(append(b, opI32Sub, opLocalSet), f.base)...)
	}
	g.probe(at)
}

// probe keeps a place for a check.
func (g *goFunction) probe(at int) {
	g.flow.probes = append(g.flow.probes, goProbe{edit: len(g.edits)})
	g.put(at, at)
}

// step is one instruction that does not end a segment.
func (g *goFunction) step(r *reader, in *instr) {
	f := &g.flow
	switch in.op {
	case opIf:
		f.pop()
		f.nest = append(f.nest, goNest{before: f.goState, height: len(f.stack)})
	case opElse:
		n := &f.nest[len(f.nest)-1]
		if n.otherwise || !f.level() { // not valid
			g.fail()
			return
		}
		n.then, n.otherwise = f.goState, true
		f.goState, f.stack = n.before, f.stack[:n.height]
	case opEnd:
		if !f.level() {
			g.fail()
			return
		}
		n := f.nest[len(f.nest)-1]
		f.nest = f.nest[:len(f.nest)-1]
		if !n.otherwise {
			n.then = n.before
		}
		f.stack = f.stack[:n.height]
		var ok bool
		if f.goState, ok = f.goState.meet(n.then); !ok {
			g.fail()
		}
	case opBr:
		g.leap(in)
		f.live = false
	case opBrIf:
		g.leap(in)
		if f.live {
			g.unwinds(r)
		}
	case opReturn, opUnreachable:
		f.live = false
	case opNop:
	default:
		if !f.live { // the toolchain writes nothing there
			g.fail()
			return
		}
		g.value(r, in)
	}
}

// leap is a br or br_if.
func (g *goFunction) leap(in *instr) {
	i, ok := slices.BinarySearchFunc(g.jumps, in.start, func(j goJump, at int) int { return j.branch - at })
	if !ok {
		g.fail()
		return
	}
	j := &g.jumps[i]
	g.edits = append(g.edits, edit{from: j.from, to: j.to, jump: i})
	if g.flow.live && !j.unwinds {
		g.arrive(j.target)
	}
}

// floor is the height of the operand stack at the beginning of the innermost if.
func (f *goFlow) floor() int {
	if len(f.nest) == 0 {
		return 0
	}
	return f.nest[len(f.nest)-1].height
}

// level says whether the operand stack is as high as at the beginning of the
// innermost if, so that that can end.
func (f *goFlow) level() bool { return !f.live || len(f.stack) == f.floor() }

func (f *goFlow) pop() goOperand {
	if len(f.stack) <= f.floor() {
		f.failed = f.failed || f.live
		return goOperand{}
	}
	top := f.stack[len(f.stack)-1]
	f.stack = f.stack[:len(f.stack)-1]
	return top
}

func (f *goFlow) push(kind goKind, value int64, from, to int) {
	f.stack = append(f.stack, goOperand{kind: kind, value: value, from: from, to: to, above: f.above, set: f.set})
}
