package module

// What a walk knows of values: those on the operand stack, the stack pointer and
// the locals.

// value is an instruction that is no block and no jump.
func (g *goFunction) value(r *reader, in *instr) {
	f := &g.flow
	switch in.op {
	case opLocalGet:
		kind, value := goLocal, int64(in.index)
		if in.index == goStackLocal {
			kind, value = goStack, 0
		}
		f.push(kind, value, in.start, r.off)
	case opLocalSet, opLocalTee:
		g.assign(r, in)
	case opGlobalGet:
		kind := goOther
		if in.index == goStackGlobal {
			kind = goReloaded
		}
		f.push(kind, 0, in.start, r.off)
	case opGlobalSet:
		if f.pop(); f.prologue {
			f.prologue, f.goState.base = false, true
			g.setBase(r.off)
		}
	case opI32Const:
		f.push(goConstant, (&reader{b: r.b, off: in.imm}).signed(32), in.start, r.off)
	case opI64Const:
		f.push(goConstant, (&reader{b: r.b, off: in.imm}).signed(64), in.start, r.off)
	case opI32Add, opI32Sub, opI64Add, opI64ExtendI32U, opI32WrapI64:
		g.address(r, in)
	case opCall, opCallIndirect:
		g.call(in)
	default:
		g.other(r, in)
	}
}

// assign is local.set or local.tee.
func (g *goFunction) assign(r *reader, in *instr) {
	f := &g.flow
	top := f.pop()
	if in.index < 64 {
		f.narrow &^= 1 << in.index
	}
	if in.op == opLocalTee {
		defer f.push(goOther, 0, 0, 0)
	}
	if in.index != goStackLocal {
		return
	}
	switch top.kind {
	case goMoved:
		f.above += top.value
		switch {
		case !f.goState.base && f.seg == 0 && len(f.nest) == 0 && top.value == -g.frame:
			f.prologue = true
		case top.value == -goReturnBytes:
			f.pushed = true
		}
	case goReloaded:
		f.stale = true
		if next := peek(r); len(f.nest) == 0 && next != opBrIf && next != opEnd {
			g.setBase(r.off)
		}
	default:
		g.fail()
	}
}

// address is an instruction of which addresses are made.
func (g *goFunction) address(r *reader, in *instr) {
	f := &g.flow
	b, kind, value := f.pop(), goOther, int64(0)
	a := b
	if in.op == opI32Add || in.op == opI32Sub || in.op == opI64Add {
		a = f.pop()
	}
	switch {
	case in.op == opI32Add && a.kind == goStack && b.kind == goConstant:
		kind, value = goMoved, a.value+b.value
	case in.op == opI32Sub && a.kind == goStack && b.kind == goConstant:
		kind, value = goMoved, a.value-b.value
	case in.op == opI64Add && a.kind == goWide && b.kind == goConstant && b.value >= 0 && b.value < goMostFrame:
		kind, value = goWide, a.value+b.value
	case in.op == opI64ExtendI32U && a.kind == goStack:
		kind, value = goWide, a.value
	case in.op == opI32WrapI64 && a.kind == goWide:
		kind, value = goStack, a.value
	case in.op == opI32WrapI64 && a.kind == goLocal && a.value < 64:
		g.narrow(r, a)
	}
	f.stack = append(f.stack, goOperand{kind: kind, value: value, from: a.from, to: r.off, above: a.above, set: a.set})
}

// goMostFrame bounds what is added to the stack pointer for an address in the frame.
const goMostFrame = 1 << 30

// narrow is the wrapping of a local, which is done once.
func (g *goFunction) narrow(r *reader, a goOperand) {
	f, bit := &g.flow, uint64(1)<<a.value
	if f.narrow&bit != 0 {
		g.put(a.from, r.off, appendU32([]byte{opLocalGet}, f.narrowed[a.value])...)
		return
	}
	if f.narrowed[a.value] == 0 {
		f.narrowed[a.value] = f.local()
	}
	f.narrow |= bit
	g.put(r.off, r.off, appendU32([]byte{opLocalTee}, f.narrowed[a.value])...)
}

func (g *goFunction) call(in *instr) {
	f, index := &g.flow, in.index
	if in.op == opCall {
		if int(index) >= len(g.p.funcs) {
			g.fail()
			return
		}
		index = g.p.funcs[index]
	} else {
		f.pop()
	}
	if int(index) >= len(g.p.types) {
		g.fail()
		return
	}
	typ := g.p.types[index]
	for range typ.params {
		f.pop()
	}
	for range typ.results {
		f.push(goOther, 0, 0, 0)
	}
	if f.pushed {
		f.pushed = false
		f.above += goReturnBytes
	}
}

// unwinds is the br_if behind a call.
func (g *goFunction) unwinds(r *reader) {
	f := &g.flow
	f.pop()
	switch next := peek(r); {
	case !f.stale:
	case !f.level():
		g.fail()
	case len(f.nest) > 0 && next == opEnd:
		g.put(r.off, r.off, opUnreachable)
		f.live = false
	case len(f.nest) > 0:
		g.fail()
	case next != opEnd:
		g.setBase(r.off)
	}
}

// other is an instruction of which only the operands count, or an access.
func (g *goFunction) other(r *reader, in *instr) {
	f := &g.flow
	switch size := accessSizes[in.op]; {
	case size == 0:
	case in.op < opI32Store:
		g.access(r, in, f.pop(), size)
		f.push(goOther, 0, 0, 0)
		return
	default:
		f.pop()
		g.access(r, in, f.pop(), size)
		return
	}
	pops, pushes, ok := effect(in)
	if !ok {
		g.fail()
	}
	if in.op == opMisc && pops == 3 && len(f.stack) >= 3 {
		g.bulk(r, in, f.stack[len(f.stack)-2:])
	}
	for range pops {
		f.pop()
	}
	for range pushes {
		f.push(goOther, 0, 0, 0)
	}
}

// access lets a load or store go through the base.
func (g *goFunction) access(r *reader, in *instr, to goOperand, size int64) {
	f := &g.flow
	if to.kind != goStack || !f.goState.base || f.stale || to.set != f.set {
		return
	}
	memarg := &reader{b: r.b, off: in.imm}
	align, offset := memarg.u32(), int64(memarg.u32())
	if offset += to.above + to.value; offset < 0 || offset > goMostFrame {
		return
	}
	g.put(to.from, to.to, appendU32([]byte{opLocalGet}, f.base)...)
	g.put(in.imm, r.off, appendU32(appendU32(nil, align), uint32(offset))...)
	f.high = max(f.high, offset+size)
	f.probes[len(f.probes)-1].uses++
}

// constant says whether an operand is an i32.const right before a place.
func (o goOperand) constant(code []byte, at int) bool {
	return o.kind == goConstant && o.to == at && code[o.from] == opI32Const
}

// goMostBulk bounds the bytes that are moved or cleared one by one.
const goMostBulk = 64

// bulk is memory.copy or memory.fill, by which the toolchain moves and clears
// values, with its last two operands. For few bytes their calls take longest.
func (g *goFunction) bulk(r *reader, in *instr, operands []goOperand) {
	f, what, size := &g.flow, operands[0], operands[1]
	if !size.constant(r.b, in.start) || size.value <= 0 || size.value > goMostBulk || size.value%8 != 0 || !in.firstMemory(r) {
		return
	}
	if f.places[0] == 0 {
		f.places = [2]uint32{f.local(), f.local()}
	}
	from, to := f.places[1], f.places[0]
	checked := func(b []byte) []byte { // of the address on the stack
		return append(append(b, opI32Load8U, 0, byte(size.value-1)), opDrop)
	}
	if in.sub == miscMemoryFill {
		if !what.constant(r.b, size.from) || what.value != 0 {
			return
		}
		b := checked(appendU32([]byte{opLocalTee}, to))
		for at := int64(0); at < size.value; at += 8 {
			b = append(appendU32(append(b, opLocalGet), to), opI64Const, 0, opI64Store, 3, byte(at))
		}
		g.put(what.from, r.off, b...)
		return
	}
	b := appendU32(append(appendU32([]byte{opLocalSet}, from), opLocalTee), to)
	b = checked(appendU32(append(checked(b), opLocalGet), from))
	for at := int64(0); at < size.value; at += 8 { // all is read before anything is written
		b = appendU32(append(appendU32(append(b, opLocalGet), to), opLocalGet), from)
		b = append(b, opI64Load, 3, byte(at))
	}
	for at := size.value - 8; at >= 0; at -= 8 {
		b = append(b, opI64Store, 3, byte(at))
	}
	g.put(size.from, r.off, b...)
}
