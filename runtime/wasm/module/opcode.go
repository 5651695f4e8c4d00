package module

// Opcodes that the rewriter looks at; all others only have to be measured.
// Numbers: WebAssembly core specification 2.0, section 5.4, and the proposals
// tail-call and exception-handling.
const (
	opUnreachable        = 0x00
	opNop                = 0x01
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opThrow              = 0x08
	opThrowRef           = 0x0a
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opDrop               = 0x1a
	opSelect             = 0x1b
	opTryTable           = 0x1f
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opTableSet           = 0x26
	opI64Load            = 0x29
	opI32Load8U          = 0x2d
	opI32Store           = 0x36
	opI64Store           = 0x37
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opF32Const           = 0x43
	opF64Const           = 0x44
	opI32Eqz             = 0x45
	opI32LtU             = 0x49
	opI32LeU             = 0x4d
	opI64Eqz             = 0x50
	opI64LtS             = 0x53
	opI64GeS             = 0x59
	opI32Add             = 0x6a
	opI32Sub             = 0x6b
	opI32Or              = 0x72
	opI64Add             = 0x7c
	opI64Sub             = 0x7d
	opI64Or              = 0x84
	opI64ShrU            = 0x88
	opI32WrapI64         = 0xa7
	opI64ExtendI32U      = 0xad
	opI32ReinterpretF32  = 0xbc
	opI64ReinterpretF64  = 0xbd
	opF32ReinterpretI32  = 0xbe
	opF64ReinterpretI64  = 0xbf
	opI64Extend32S       = 0xc4
	opRefNull            = 0xd0
	opRefFunc            = 0xd2
	opMisc               = 0xfc
	opVector             = 0xfd
	opAtomic             = 0xfe

	typeI64   = 0x7e
	typeI32   = 0x7f
	typeF32   = 0x7d
	typeF64   = 0x7c
	typeEmpty = 0x40
	// noResult is typeEmpty as a block type, a signed number.
	noResult = -0x40
)

// Second bytes after opMisc.
const (
	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17
)

// shape says which immediates follow an opcode.
type shape uint8

const (
	shapeUnknown shape = iota
	shapeNone
	shapeIndex    // one u32
	shapeTwo      // two u32
	shapeBlock    // a block type
	shapeMemory   // alignment and offset
	shapeI32      // signed LEB128
	shapeI64      // signed LEB128
	shapeF32      // 4 bytes
	shapeF64      // 8 bytes
	shapeBrTable  // labels and a default label
	shapeSelect   // value types
	shapeHeap     // a heap type
	shapeTryTable // a block type and catch clauses
)

// shapes is the table of one-byte opcodes; it is never written after its
// construction.
var shapes = oneByteShapes()

func oneByteShapes() (t [256]shape) {
	fill := func(from, to int, s shape) {
		for i := from; i <= to; i++ {
			t[i] = s
		}
	}
	fill(0x00, 0x01, shapeNone)
	fill(opBlock, opIf, shapeBlock)
	fill(opElse, opElse, shapeNone)
	fill(opThrow, opThrow, shapeIndex)
	fill(opThrowRef, opEnd, shapeNone)
	fill(opBr, opBrIf, shapeIndex)
	fill(opBrTable, opBrTable, shapeBrTable)
	fill(opReturn, opReturn, shapeNone)
	fill(opCall, opCall, shapeIndex)
	fill(opCallIndirect, opCallIndirect, shapeTwo)
	fill(opReturnCall, opReturnCall, shapeIndex)
	fill(opReturnCallIndirect, opReturnCallIndirect, shapeTwo)
	fill(0x1a, 0x1b, shapeNone)
	fill(0x1c, 0x1c, shapeSelect)
	fill(opTryTable, opTryTable, shapeTryTable)
	fill(opLocalGet, 0x26, shapeIndex)
	fill(0x28, 0x3e, shapeMemory)
	fill(0x3f, opMemoryGrow, shapeIndex)
	fill(opI32Const, opI32Const, shapeI32)
	fill(opI64Const, opI64Const, shapeI64)
	fill(0x43, 0x43, shapeF32)
	fill(0x44, 0x44, shapeF64)
	fill(0x45, 0xc4, shapeNone)
	fill(opRefNull, opRefNull, shapeHeap)
	fill(0xd1, 0xd1, shapeNone)
	fill(opRefFunc, opRefFunc, shapeIndex)
	return t
}

// instr is one decoded instruction: what the rewriter may want to know of it.
type instr struct {
	op    byte
	sub   uint32 // of opMisc and opVector
	start int    // offset of the opcode
	imm   int    // offset of the first immediate
	index uint32 // the first u32 immediate
	block int64  // the block type: >= 0 is a type index
}

// next decodes one instruction and moves behind it.
func (r *reader) next(in *instr) {
	in.start = r.off
	in.op = r.u8()
	in.imm = r.off
	switch shapes[in.op] {
	case shapeNone:
	case shapeIndex:
		in.index = r.u32()
	case shapeTwo, shapeMemory:
		in.index = r.u32()
		r.u32()
	case shapeBlock:
		in.block = r.signed(33)
	case shapeI32:
		r.signed(32)
	case shapeI64:
		r.signed(64)
	case shapeF32:
		r.take(4)
	case shapeF64:
		r.take(8)
	case shapeHeap:
		r.signed(33)
	case shapeBrTable:
		for n := r.count("labels"); n >= 0 && r.err == nil; n-- {
			r.u32()
		}
	case shapeSelect:
		for n := r.count("types"); n > 0; n-- {
			r.valueType()
		}
	case shapeTryTable:
		in.block = r.signed(33)
		r.catches(nil)
	default:
		r.prefixed(in)
	}
}

// firstMemory says whether all that a bulk instruction on the memory names is
// memory 0, a byte each, as wazero asks.
func (in *instr) firstMemory(r *reader) bool {
	for _, b := range r.b[in.imm:r.off] {
		if b != 0 {
			return false
		}
	}
	return true
}

// catches reads catch clauses and tells note, if there is one, of their labels.
func (r *reader) catches(note func(label uint32)) {
	for n := r.count("catch clauses"); n > 0; n-- {
		switch kind := r.u8(); kind {
		case 0, 1:
			r.u32()
		case 2, 3:
		default:
			r.fail("unknown catch clause %#x", kind)
			return
		}
		if label := r.u32(); note != nil {
			note(label)
		}
	}
}

func (r *reader) prefixed(in *instr) {
	switch in.op {
	case opMisc:
		in.sub = r.u32()
		in.imm = r.off
		switch in.sub {
		case 0, 1, 2, 3, 4, 5, 6, 7:
		case miscDataDrop, miscMemoryFill, 13, miscTableGrow, miscTableSize, miscTableFill:
			in.index = r.u32()
		case miscMemoryInit, miscMemoryCopy, miscTableInit, miscTableCopy:
			in.index = r.u32()
			r.u32()
		default:
			r.fail("unknown instruction 0xfc %#x", in.sub)
		}
	case opVector:
		in.sub = r.u32()
		in.imm = r.off
		r.vector(in.sub)
	case opAtomic:
		r.fail("the module uses threads (atomic instructions), which are not supported; build it without threads")
	default:
		if r.err == nil {
			r.fail("unknown instruction %#x", in.op)
		}
	}
}

func (r *reader) vector(sub uint32) {
	switch {
	case sub <= 0x0b, sub == 0x5c, sub == 0x5d:
		r.u32()
		r.u32()
	case sub == 0x0c, sub == 0x0d:
		r.take(16)
	case sub >= 0x15 && sub <= 0x22:
		r.u8()
	case sub >= 0x54 && sub <= 0x5b:
		r.u32()
		r.u32()
		r.u8()
	case sub > 0xff:
		r.fail("the module uses relaxed SIMD instructions, which are not supported; build it with plain SIMD (simd128)")
	}
}

// valueType reads a value type of one byte.
func (r *reader) valueType() byte {
	t := r.u8()
	switch t {
	case typeI32, typeI64, 0x7d, 0x7c, 0x7b, 0x70, 0x6f, 0x69:
	default:
		if r.err == nil {
			r.fail("the module uses value type %#x (garbage collection or typed references), which is not supported; build it for WebAssembly 2.0", t)
		}
	}
	return t
}

// accessSizes are the bytes that loads and stores access; 0: it is neither.
var accessSizes = [256]int64{
	0x28: 4, 8, 4, 8, 1, 1, 2, 2, 1, 1, 2, 2, 4, 4, // loads
	opI32Store: 4, 8, 4, 8, 1, 2, 1, 2, 4,
}

// effect is how many operands an instruction takes and leaves, if it is
// numeric, or is drop, select, or one that asks for the memory's size or
// changes bytes of it.
func effect(in *instr) (pops, pushes int, ok bool) {
	switch op := in.op; {
	case op == opNop:
		return 0, 0, true
	case op == opDrop:
		return 1, 0, true
	case op == opSelect:
		return 3, 1, true
	case op == opMemorySize, op == opF32Const, op == opF64Const:
		return 0, 1, true
	case op == opMisc && (in.sub == miscMemoryCopy || in.sub == miscMemoryFill):
		return 3, 0, true
	case op == opMisc && in.sub < miscMemoryInit, op == opMemoryGrow:
		return 1, 1, true
	case op < opI32Eqz || op > opI64Extend32S:
		return 0, 0, false
	case op == opI32Eqz, op == opI64Eqz, op >= 0x67 && op <= 0x69, op >= 0x79 && op <= 0x7b, // clz, ctz, popcnt
		op >= 0x8b && op <= 0x91, op >= 0x99 && op <= 0x9f, op >= opI32WrapI64: // of floats; conversions
		return 1, 1, true
	}
	return 2, 1, true
}
