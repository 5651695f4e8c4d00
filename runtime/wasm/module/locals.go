package module

import "math/bits"

// localDecl is the head of a body.
type localDecl struct {
	groups int
	raw    [2]int              // where the groups are; the code follows
	count  uint32              // of locals, with the parameters
	types  [trackedLocals]byte // of the first ones
}

// readLocals reads a body's head and returns a reader of its code.
func readLocals(body []byte, typ funcType) (*reader, localDecl, error) {
	r := &reader{b: body}
	d := localDecl{groups: r.count("locals")}
	known := copy(d.types[:], typ.params)
	d.raw[0] = r.off
	locals := uint64(len(typ.params))
	for i := 0; i < d.groups && r.err == nil; i++ {
		n := r.u32()
		locals += uint64(n)
		for t := r.valueType(); n > 0 && known < len(d.types); n-- {
			d.types[known] = t
			known++
		}
		if locals > maxLocals {
			return nil, d, invalid("a function has more than %d locals, which is more than is supported", maxLocals)
		}
	}
	d.raw[1], d.count = r.off, uint32(locals)
	return r, d, nil
}

// What a loop carries from turn to turn is in registers, and to keep it over a
// call wazero's compiler stores it wherever it changes: in every turn, for a call
// that comes once in thousands of them. So what asks for fuel keeps copies of its
// own instead. It copies what is written in the loop and read behind its header
// again; more would have to be carried only to be copied, and with less there are
// only more stores.

const (
	// trackedLocals is how many locals of a function are looked at.
	trackedLocals = 64
	// mostSteps bounds what is kept of a function. One with more has no copies.
	mostSteps = 1 << 20
	// localCopyBytes is what the copy of a local takes, at most.
	localCopyBytes = 9
)

// localSet is a set of the first trackedLocals ones.
type localSet uint64

// step is what matters of an instruction to know which locals are live.
type step struct {
	kind stepKind
	arg  uint32 // a local, a label, or a loop's slot
}

type stepKind uint8

const (
	stepGet stepKind = iota
	stepSet
	stepOpen // a block
	stepIf
	stepElse
	stepLoop
	stepEnd
	stepEndLoop
	stepJump // it may go to a label
	stepStop // it does not go on behind it
)

func stepOf(is bool, one, other stepKind) stepKind {
	if is {
		return one
	}
	return other
}

func (w *bodyWriter) step(kind stepKind, arg uint32) {
	if len(w.steps) < mostSteps {
		w.steps = append(w.steps, step{kind, arg})
	}
}

// construct is an open block, as one comes to it from its end.
type construct struct {
	label  localSet // live where its label leads; of a loop: not looked at again
	after  localSet // live behind it
	other  localSet // live where an if goes on that is not taken
	writes localSet
}

// findCarried finds for each loop which locals its turns hand on. One walk from the
// end suffices: a way from a header to a read of a local that comes to the same
// header again is the longer one of two. Only jumps to the headers of outer loops
// are not followed.
func (w *bodyWriter) findCarried() {
	if len(w.steps) == mostSteps {
		return
	}
	var live localSet
	open := w.constructs[:0]
	for i := len(w.steps) - 1; i >= 0; i-- {
		s := w.steps[i]
		if s.kind == stepEnd || s.kind == stepEndLoop {
			c := construct{after: live, other: live}
			if s.kind == stepEnd {
				c.label = live
			}
			open = append(open, c)
			continue
		}
		if len(open) == 0 {
			return // not valid, as wazero will say
		}
		top := &open[len(open)-1]
		switch s.kind {
		case stepGet:
			live |= 1 << s.arg
		case stepSet:
			live &^= 1 << s.arg
			top.writes |= 1 << s.arg
		case stepElse:
			top.other, live = live, top.after
		case stepJump:
			if int64(s.arg) < int64(len(open)) {
				live |= open[len(open)-1-int(s.arg)].label
			}
		case stepStop:
			live = 0
		case stepIf, stepOpen, stepLoop:
			if s.kind == stepIf {
				live |= top.other
			}
			if s.kind == stepLoop {
				w.loops[s.arg].carried = live & top.writes
			}
			writes := top.writes
			if open = open[:len(open)-1]; len(open) > 0 {
				open[len(open)-1].writes |= writes
			}
		}
	}
	w.constructs = open
}

// appendCopies makes new values of locals, which wazero's compiler does not
// take for the old ones.
func (w *bodyWriter) appendCopies(dst []byte, set localSet) []byte {
	if w.room -= bits.OnesCount64(uint64(set)) * localCopyBytes; w.room < 0 {
		return dst
	}
	for ; set != 0; set &= set - 1 {
		local := uint32(bits.TrailingZeros64(uint64(set)))
		var same []byte
		switch w.types[local] {
		case typeI32:
			same = []byte{opI32Const, 0, opI32Or}
		case typeI64:
			same = []byte{opI64Const, 0, opI64Or}
		case typeF32:
			same = []byte{opI32ReinterpretF32, opI32Const, 0, opI32Or, opF32ReinterpretI32}
		case typeF64:
			same = []byte{opI64ReinterpretF64, opI64Const, 0, opI64Or, opF64ReinterpretI64}
		default:
			continue
		}
		dst = append(appendU32(append(dst, opLocalGet), local), same...)
		dst = appendU32(append(dst, opLocalSet), local)
	}
	return dst
}
