package module

import (
	"bytes"
	"encoding/binary"
)

// Section numbers of the binary format.
const (
	secCustom    = 0
	secType      = 1
	secImport    = 2
	secFunction  = 3
	secTable     = 4
	secMemory    = 5
	secGlobal    = 6
	secExport    = 7
	secStart     = 8
	secElement   = 9
	secCode      = 10
	secData      = 11
	secDataCount = 12
	secTag       = 13
)

// Bounds of what is compiled, so that neither time nor memory of a compilation
// depend on who built the module. Those of functions are the browsers'.
const (
	maxModule = 256 << 20 // bytes of a module
	maxBody   = 7654321   // bytes of a function's code
)

// order is the rank of each section id in a module (WebAssembly 2.0, 5.5.16,
// and exception handling for the tag section).
var order = [...]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secTag: 6, secGlobal: 7,
	secExport: 8, secStart: 9, secElement: 10, secDataCount: 11, secCode: 12, secData: 13}

// parsed is a module taken apart as far as the rewriter needs it. Byte slices
// are parts of the input.
type parsed struct {
	types     []funcType
	typeRaw   []byte // without the count, as all …Raw
	imports   []importEntry
	importRaw []byte
	// funcs holds the type of every function, imported ones first.
	funcs     []uint32
	imported  uint32 // how many of funcs are imported
	tables    []tableType
	memories  []limits
	globals   uint32 // how many
	globalRaw []byte
	exports   []exportEntry
	start     *uint32
	elements  uint32
	elemRaw   []byte
	dataCount *uint32
	bodies    [][]byte
	data      []dataSegment
	dataRaw   []byte // with the count
	tagRaw    []byte // with the count
	customs   []custom
}

type funcType struct{ params, results []byte }

type importEntry struct {
	module, name string
	kind         byte
	typ          uint32 // of a function
}

type exportEntry struct {
	name  string
	kind  byte
	index uint32
}

type limits struct {
	min, max uint32
	bounded  bool
}

type tableType struct {
	elem byte
	limits
}

type dataSegment struct {
	active bool
	fixed  bool // the offset is one i32.const
	offset uint32
	init   []byte
}

type custom struct {
	name    string
	payload []byte
}

// checkHeader tells a core module from everything else that people name .wasm.
func checkHeader(b []byte) error {
	switch {
	case len(b) == 0:
		return invalid("the file is empty, not a WebAssembly module")
	case !bytes.HasPrefix(b, []byte("\x00asm")):
		return invalid("not a WebAssembly module: it does not begin with the magic bytes 00 61 73 6d (text format must be assembled first)")
	case len(b) < 8:
		return invalid("the module is truncated: it ends within its header; build or download it again")
	}
	version, layer := binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
	if layer == 1 {
		return invalid("this is a WebAssembly component (component model); only core modules can run: build a core module, e.g. with the target wasm32-wasip1")
	}
	if version != 1 || layer != 0 {
		return invalid("unknown WebAssembly version %d (layer %d); only version 1 core modules can run", version, layer)
	}
	return nil
}

// parse takes a module apart. It checks what the rewriter relies on; wazero
// validates the rest when the rewritten module is compiled.
func parse(b []byte) (*parsed, error) {
	if err := checkHeader(b); err != nil {
		return nil, err
	}
	p := &parsed{}
	r := &reader{b: b, off: 8}
	last := 0
	for !r.done() && r.err == nil {
		id := r.u8()
		payload := r.take(r.u32())
		if r.err != nil {
			break
		}
		if id != secCustom {
			if int(id) >= len(order) || order[id] == 0 {
				return nil, invalid("unknown section %d", id)
			}
			if order[id] <= last {
				return nil, invalid("section %d is repeated or out of order", id)
			}
			last = order[id]
		}
		if err := p.section(id, payload); err != nil {
			return nil, err
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if int(p.imported)+len(p.bodies) != len(p.funcs) {
		return nil, invalid("the module declares %d functions but holds the code of %d", len(p.funcs)-int(p.imported), len(p.bodies))
	}
	if p.dataCount != nil && int(*p.dataCount) != len(p.data) {
		return nil, invalid("the module announces %d data segments but holds %d", *p.dataCount, len(p.data))
	}
	return p, nil
}

func (p *parsed) section(id byte, payload []byte) error {
	r := &reader{b: payload}
	switch id {
	case secCustom:
		name := r.name()
		p.customs = append(p.customs, custom{name: name, payload: r.b[r.off:]})
		return r.failure() // what is in the payload is no reason to refuse
	case secType:
		p.readTypes(r)
	case secImport:
		p.readImports(r)
	case secFunction:
		p.readFunctions(r)
	case secTable:
		for n := r.count("tables"); n > 0 && r.err == nil; n-- {
			p.tables = append(p.tables, tableType{elem: r.valueType(), limits: r.limits("table")})
		}
	case secMemory:
		for n := r.count("memories"); n > 0 && r.err == nil; n-- {
			p.memories = append(p.memories, r.limits("memory"))
		}
		if len(p.memories) > 1 {
			r.fail("the module has %d memories; only one is supported", len(p.memories))
		}
	case secTag:
		p.tagRaw = payload
		for n := r.count("tags"); n > 0 && r.err == nil; n-- {
			p.readTag(r)
		}
	case secGlobal:
		p.readGlobals(r)
	case secExport:
		for n := r.count("exports"); n > 0 && r.err == nil; n-- {
			p.exports = append(p.exports, exportEntry{name: r.name(), kind: r.u8(), index: r.u32()})
		}
	case secStart:
		f := r.u32()
		p.start = &f
	case secElement:
		p.elements = uint32(r.count("element segments"))
		p.elemRaw, r.off = payload[r.off:], len(payload)
	case secDataCount:
		n := r.u32()
		p.dataCount = &n
	case secCode:
		for n := r.count("function bodies"); n > 0 && r.err == nil; n-- {
			p.bodies = append(p.bodies, r.take(r.u32()))
			if size := len(p.bodies[len(p.bodies)-1]); size > maxBody {
				r.fail("function %d has %d bytes of code, more than the %d that are supported; build the module without inlining that much", len(p.bodies)-1+int(p.imported), size, maxBody)
			}
		}
	case secData:
		p.dataRaw = payload
		p.readData(r)
	}
	if r.err == nil && !r.done() {
		r.fail("section %d holds %d bytes too many", id, len(r.b)-r.off)
	}
	return r.failure()
}

func (p *parsed) readTypes(r *reader) {
	n := r.count("types")
	from := r.off
	for ; n > 0 && r.err == nil; n-- {
		if form := r.u8(); form != 0x60 && r.err == nil {
			r.fail("the module uses type form %#x (garbage collection or typed references), which is not supported; build it for WebAssembly 2.0", form)
			return
		}
		var t funcType
		t.params = r.valueTypes()
		t.results = r.valueTypes()
		p.types = append(p.types, t)
	}
	if r.err == nil {
		p.typeRaw = r.b[from:r.off]
	}
}

func (r *reader) valueTypes() []byte {
	n := r.count("types")
	from := r.off
	for ; n > 0; n-- {
		r.valueType()
	}
	if r.err != nil {
		return nil
	}
	return r.b[from:r.off]
}

func (p *parsed) readImports(r *reader) {
	n := r.count("imports")
	from := r.off
	for ; n > 0 && r.err == nil; n-- {
		e := importEntry{module: r.name(), name: r.name(), kind: r.u8()}
		switch e.kind {
		case kindFunction:
			e.typ = r.u32()
			if int(e.typ) >= len(p.types) {
				r.fail("import %s.%s has unknown type %d", e.module, e.name, e.typ)
			}
			p.funcs = append(p.funcs, e.typ)
			p.imported++
		case kindTable:
			r.valueType()
			r.limits("table")
		case kindMemory:
			r.limits("memory")
		case kindGlobal:
			r.valueType()
			r.u8()
			p.globals++
		case kindTag:
			p.readTag(r)
		default:
			r.fail("import %s.%s has unknown kind %d", e.module, e.name, e.kind)
		}
		p.imports = append(p.imports, e)
	}
	if r.err == nil {
		p.importRaw = r.b[from:r.off]
	}
}

// readTag checks a tag's type: the rewriter adds types, which must not become
// that of a tag.
func (p *parsed) readTag(r *reader) {
	r.u8()
	if t := r.u32(); r.err == nil && int(t) >= len(p.types) {
		r.fail("a tag has unknown type %d", t)
	}
}

func (p *parsed) readFunctions(r *reader) {
	for n := r.count("functions"); n > 0 && r.err == nil; n-- {
		t := r.u32()
		if int(t) >= len(p.types) {
			r.fail("function %d has unknown type %d", len(p.funcs), t)
		}
		p.funcs = append(p.funcs, t)
	}
}

func (p *parsed) readGlobals(r *reader) {
	n := uint32(r.count("globals"))
	from := r.off
	// Initial values are read again, and checked, when they are rewritten.
	for i := uint32(0); i < n && r.err == nil; i++ {
		r.valueType()
		r.u8()
		r.constant()
	}
	p.globals += n
	if r.err == nil {
		p.globalRaw = r.b[from:r.off]
	}
}

// limits reads the bounds of a table or memory.
func (r *reader) limits(what string) limits {
	var l limits
	switch flags := r.u8(); flags {
	case 0:
		l.min = r.u32()
	case 1:
		l.min, l.max, l.bounded = r.u32(), r.u32(), true
	case 2, 3:
		r.fail("the module uses threads (shared memory), which are not supported; build it without threads")
	case 4, 5, 6, 7:
		r.fail("the module uses a 64-bit %s (memory64), which is not supported; build it for wasm32", what)
	default:
		r.fail("unknown limits %#x of a %s", flags, what)
	}
	return l
}

func (p *parsed) readData(r *reader) {
	for n := r.count("data segments"); n > 0 && r.err == nil; n-- {
		var d dataSegment
		switch flags := r.u32(); flags {
		case 0, 2:
			d.active = true
			memory := uint32(0)
			if flags == 2 {
				memory = r.u32()
			}
			d.offset, d.fixed = r.constant()
			d.fixed = d.fixed && memory == 0
		case 1:
		default:
			r.fail("unknown kind %d of a data segment", flags)
		}
		d.init = r.take(r.u32())
		p.data = append(p.data, d)
	}
}

// constant skips a constant expression and says whether it is one i32.const.
func (r *reader) constant() (value uint32, fixed bool) {
	if r.off < len(r.b) && r.b[r.off] == opI32Const {
		probe := *r
		probe.u8()
		v := probe.signed(32)
		if probe.u8() == opEnd && probe.err == nil {
			r.off = probe.off
			return uint32(v), true
		}
	}
	var in instr
	for r.err == nil {
		if r.next(&in); in.op == opEnd {
			break
		}
	}
	return 0, false
}
