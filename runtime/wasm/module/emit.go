package module

// splice copies the code from offset from with all patches applied. length is
// the local that narrow adds.
func (w *bodyWriter) splice(dst, body []byte, from int, length uint32) []byte {
	for i := 0; i < len(w.patches); {
		c := w.patches[i]
		dst = append(dst, body[from:c.at]...)
		i++
		if c.kind == patchLoop && w.splits(int(c.val)) {
			l, inner := w.loops[c.val], i
			for i < len(w.patches) && w.patches[i].at < l.end {
				i++
			}
			dst = w.appendSplit(dst, body, l, w.patches[inner:i])
			from = l.end
			continue
		}
		from = c.at + c.skip
		switch c.kind {
		case patchFunction, patchLabel:
			dst = appendU32(dst, c.val)
		case patchCharge:
			dst = w.appendCharge(dst, int64(c.val))
		case patchLoop:
			l := w.loops[c.val]
			from = l.typ[1]
			dst = append(dst, body[c.at:from]...)
			dst = w.appendCheck(w.appendCost(dst, min(mostAhead, l.cost)), l.carried)
		case patchBulk:
			dst = w.appendBulk(appendU32(append(dst, opLocalTee), length), length)
		case patchMemory:
			dst = w.appendMemory(dst, c.val, length)
		}
	}
	return append(dst, body[from:]...)
}

// splits says whether a loop becomes two.
func (w *bodyWriter) splits(slot int) bool {
	return w.loops[slot].split && w.loops[slot].cost <= mostSplit
}

const (
	// mostSplit bounds the work of one turn of a split loop, in which there is no
	// other charge.
	mostSplit = 2048
	// maxCopies is how often the body of a small loop is written, so that the
	// fuel is lowered once for as many turns.
	maxCopies = 8
	// copiedBytes bounds what the copies of one loop come to.
	copiedBytes = 512
	// copyBytes is what a copy takes beside the body's own bytes, at most.
	copyBytes = 16
	// leastRoom is what copies may add to any module, in bytes; beyond it, half
	// of the module's own size.
	leastRoom = 64 << 10
)

// copies says how often a loop's body is written.
func (w *bodyWriter) copies(l loop) int {
	n := max(1, min(maxCopies, copiedBytes/max(1, l.end-l.typ[1])))
	if w.room -= (n - 1) * (l.end - l.typ[1] + copyBytes); w.room < 0 {
		return 1
	}
	return n
}

// appendSplit writes a loop as two, up to its last end, so that the inner one,
// which does the work, has no call in it: calls cost wazero's compiler the
// registers in which it keeps the memory's address and the loop's values. The
// work is written several times, so that the fuel, which lives in memory, is
// lowered once for several turns:
//
//	block
//	  loop
//	    block
//	      loop  fuel -= copies*cost; fuel < 0: br 1
//	        block … br 4 end    ;; to repeat is to leave this block
//	        block … br 4 end
//	        block … end br 3    ;; the last one repeats the loop
//	      end
//	    end
//	    fuel += copies*cost  copies of locals  refuel
//	    br 0
//	  end
//	end
func (w *bodyWriter) appendSplit(dst, body []byte, l loop, patches []patch) []byte {
	copies := w.copies(l)
	typ := body[l.typ[0]:l.typ[1]]
	dst = append(append(dst, opBlock), typ...)
	dst = append(append(dst, opLoop), typ...)
	dst = append(dst, opBlock, typeEmpty)
	dst = append(append(dst, opLoop), typ...)
	dst = w.appendSubtract(w.appendCost(dst, l.cost*int64(copies)))
	dst = append(dst, opI64Const, 0, opI64LtS, opBrIf, 1)
	for range copies - 1 {
		dst = append(dst, opBlock, typeEmpty)
		dst = appendBody(dst, body, l, patches, 0, 4)
		dst = append(dst, opBr, 4, opEnd)
	}
	// One copy is in a block of the loop's type, in which it leaves the loop's
	// results and nothing else, or the module is not valid: before the branch
	// alone it could leave more.
	dst = append(append(dst, opBlock), typ...)
	dst = appendBody(dst, body, l, patches, 1, 4)
	dst = append(dst, opEnd, opBr, 3, opEnd)
	if len(typ) != 1 || typ[0] != typeEmpty {
		dst = append(dst, opUnreachable) // nobody comes here, to take the results
	}
	dst = w.appendCost(append(dst, opEnd), l.cost*int64(copies))
	dst = appendU32(append(dst, opI64Add, opGlobalSet), w.fuel)
	dst = appendU32(append(w.appendCopies(dst, l.carried), opCall), w.refuel())
	return append(dst, opBr, 0, opEnd)
}

// appendBody copies a split loop's body. Labels that repeat the loop move by
// again, those that leave it by out. Charges in it are left out: the loop's own
// pays for all of it.
func appendBody(dst, body []byte, l loop, patches []patch, again, out uint32) []byte {
	from := l.typ[1]
	for _, c := range patches {
		if c.kind == patchCharge {
			continue
		}
		dst = append(dst, body[from:c.at]...)
		from = c.at + c.skip
		switch {
		case c.kind != patchLabel:
		case c.leaves:
			c.val += out
		default:
			c.val += again
		}
		dst = appendU32(dst, c.val)
	}
	return append(dst, body[from:l.end]...)
}

// appendCharge lowers the fuel by a cost.
func (w *bodyWriter) appendCharge(dst []byte, cost int64) []byte {
	return w.appendCheck(w.appendCost(dst, cost), 0)
}

func (w *bodyWriter) appendCost(dst []byte, cost int64) []byte {
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	return appendSigned(append(dst, opI64Const), cost)
}

// appendBulk lowers the fuel by the length in a local, an i32.
func (w *bodyWriter) appendBulk(dst []byte, length uint32) []byte {
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = appendU32(append(dst, opLocalGet), length)
	return w.appendCheck(append(dst, opI64ExtendI32U, opI64Const, bulkShift, opI64ShrU), 0)
}

// appendCheck subtracts and, below zero, gets new fuel. It takes two numbers
// from the stack and leaves nothing:
//
//	i64.sub  global.set fuel
//	global.get fuel  i64.const 0  i64.ge_s
//	if  else  copies  call refuel  end
//
// The order is for wazero's compiler: where two paths meet, it goes on with the
// registers of the one that comes first, and a path with a call in it has lost
// most of them.
func (w *bodyWriter) appendCheck(dst []byte, carried localSet) []byte {
	dst = append(w.appendSubtract(dst), opI64Const, 0, opI64GeS, opIf, typeEmpty, opElse)
	dst = w.appendCopies(dst, carried)
	return append(appendU32(append(dst, opCall), w.refuel()), opEnd)
}

// appendSubtract lowers the fuel and leaves what is left on the stack. A global
// that has just been set is not read again.
func (w *bodyWriter) appendSubtract(dst []byte) []byte {
	dst = appendU32(append(dst, opI64Sub, opGlobalSet), w.fuel)
	return appendU32(append(dst, opGlobalGet), w.fuel)
}

// appendRefuel writes the body of the function that gets new fuel, which is
// called in many places and so takes and returns nothing:
//
//	global.get fuel  call yield  global.set fuel
func (w *bodyWriter) appendRefuel(dst []byte) []byte {
	dst = appendU32(append(dst, 0, opGlobalGet), w.fuel)
	dst = appendU32(append(dst, opCall), w.yield)
	return append(appendU32(append(dst, opGlobalSet), w.fuel), opEnd)
}
