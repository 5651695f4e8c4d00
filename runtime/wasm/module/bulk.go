package module

// memory.copy and memory.fill of gigabytes take long, and nothing can stop them.
// What is longer than pieceBytes is done in pieces, by a function that the
// rewriter adds, with a charge before each.

// pieceBytes is some 10 µs' work, a tenth of a millisecond's where pages are
// touched for the first time, and pieceCost what is charged for it: more than for
// as much in small operations, which the processor's caches hold.
const (
	pieceBytes = 64 << 10
	pieceCost  = pieceBytes >> 3
)

// pieces says which of the functions that do an operation in pieces a module
// needs. They come behind all others and refuel, in this order.
type pieces struct{ copies, fills bool }

func (p pieces) count() (n uint32) {
	if p.copies {
		n++
	}
	if p.fills {
		n++
	}
	return n
}

// Types that assemble adds to the module's own.
const (
	addedYield  = iota // i64 -> i64
	addedRefuel        // ->
	addedPair          // i32 i32 ->
	addedThree         // i32 i32 i32 ->
	addedTypes
)

func (w *bodyWriter) addedType(n uint32) uint32 { return uint32(len(w.p.types)) + n }

// appendMemory writes memory.copy or memory.fill, whose operands are on the
// stack:
//
//	local.set n
//	local.get n  i32.const pieceBytes  i32.le_u
//	if  charge n  local.get n  the operation  else  local.get n  call pieces  end
func (w *bodyWriter) appendMemory(dst []byte, sub, n uint32) []byte {
	dst = appendU32(append(dst, opLocalSet), n)
	dst = appendU32(append(dst, opLocalGet), n)
	dst = appendSigned(append(dst, opI32Const), pieceBytes)
	dst = appendSigned(append(dst, opI32LeU, opIf), int64(w.addedType(addedPair)))
	dst = w.appendBulk(dst, n)
	dst = appendU32(append(dst, opLocalGet), n)
	dst = appendOperation(dst, sub)
	dst = appendU32(append(dst, opElse, opLocalGet), n)
	dst = appendU32(append(dst, opCall), w.piecesOf(sub))
	return append(dst, opEnd)
}

func appendOperation(dst []byte, sub uint32) []byte {
	if sub == miscMemoryCopy {
		return append(dst, opMisc, miscMemoryCopy, 0, 0)
	}
	return append(dst, opMisc, miscMemoryFill, 0)
}

// refuel is the index of the function that gets new fuel.
func (w *bodyWriter) refuel() uint32 { return uint32(len(w.p.funcs)) + 1 } // behind yield

// piecesOf is the index of the function that does an operation in pieces.
func (w *bodyWriter) piecesOf(sub uint32) uint32 {
	first := w.refuel() + 1
	if sub == miscMemoryFill && w.pieces.copies {
		first++
	}
	return first
}

// added is how many functions the module gets.
func (w *bodyWriter) added() uint32 { return 1 + w.pieces.count() }

// appendAdded adds the bodies of the functions that the module gets.
func (w *bodyWriter) appendAdded(code []byte) []byte {
	put := func(body []byte) { code = append(appendU32(code, uint32(len(body))), body...) }
	put(w.appendRefuel(nil))
	if w.pieces.copies {
		put(w.copyPieces())
	}
	if w.pieces.fills {
		put(w.fillPieces())
	}
	return code
}

// Parameters of both functions: to, from (or value) and length.
const (
	pieceTo, pieceFrom, pieceLength = 0, 1, 2
)

// appendFits traps unless address to has length bytes behind it, as the whole
// operation would before it changes anything: an operation of no bytes at its
// end, which must not wrap around.
func appendFits(dst []byte, to byte) []byte {
	dst = append(dst, opLocalGet, to, opLocalGet, pieceLength, opI32Add, opLocalGet, to, opI32LtU, opIf, typeEmpty, opUnreachable, opEnd)
	return append(dst, opLocalGet, to, opLocalGet, pieceLength, opI32Add, opI32Const, 0, opI32Const, 0, opMisc, miscMemoryFill, 0)
}

// appendTurns writes a loop that runs step while more than a piece is left, and
// charges for each turn.
func (w *bodyWriter) appendTurns(dst []byte, step func([]byte) []byte) []byte {
	dst = append(dst, opBlock, typeEmpty, opLoop, typeEmpty, opLocalGet, pieceLength)
	dst = appendSigned(append(dst, opI32Const), pieceBytes)
	dst = append(dst, opI32LeU, opBrIf, 1)
	dst = w.appendCharge(dst, pieceCost)
	return append(step(dst), opBr, 0, opEnd, opEnd)
}

// appendMove adds pieceBytes to a local, or takes them away.
func appendMove(dst []byte, local, op byte) []byte {
	dst = appendSigned(append(dst, opLocalGet, local, opI32Const), pieceBytes)
	return append(dst, op, opLocalSet, local)
}

// appendLast does what is left.
func (w *bodyWriter) appendLast(dst []byte, sub uint32) []byte {
	dst = w.appendCharge(dst, pieceCost)
	return append(appendOperation(append(dst, opLocalGet, pieceTo, opLocalGet, pieceFrom, opLocalGet, pieceLength), sub), opEnd)
}

func (w *bodyWriter) fillPieces() []byte {
	b := appendFits([]byte{0}, pieceTo)
	b = w.appendTurns(b, func(b []byte) []byte {
		b = appendSigned(append(b, opLocalGet, pieceTo, opLocalGet, pieceFrom, opI32Const), pieceBytes)
		b = appendMove(appendOperation(b, miscMemoryFill), pieceTo, opI32Add)
		return appendMove(b, pieceLength, opI32Sub)
	})
	return w.appendLast(b, miscMemoryFill)
}

// copyPieces begins at the end from which no piece is overwritten before it is
// copied.
func (w *bodyWriter) copyPieces() []byte {
	b := appendFits(appendFits([]byte{0}, pieceTo), pieceFrom)
	b = append(b, opLocalGet, pieceTo, opLocalGet, pieceFrom, opI32LeU, opIf, typeEmpty)
	b = w.appendTurns(b, func(b []byte) []byte {
		b = appendSigned(append(b, opLocalGet, pieceTo, opLocalGet, pieceFrom, opI32Const), pieceBytes)
		b = appendMove(appendOperation(b, miscMemoryCopy), pieceTo, opI32Add)
		return appendMove(appendMove(b, pieceFrom, opI32Add), pieceLength, opI32Sub)
	})
	b = append(b, opElse)
	b = w.appendTurns(b, func(b []byte) []byte {
		b = appendMove(b, pieceLength, opI32Sub)
		for _, at := range []byte{pieceTo, pieceFrom} {
			b = append(b, opLocalGet, at, opLocalGet, pieceLength, opI32Add)
		}
		return appendOperation(appendSigned(append(b, opI32Const), pieceBytes), miscMemoryCopy)
	})
	return w.appendLast(append(b, opEnd), miscMemoryCopy)
}
