package module

// RewriteVersion changes whenever Rewrite's output for some input does; it is
// part of the cache's keys.
const RewriteVersion = "10"

// hostModule and yieldName name the one function that rewritten modules import.
const (
	hostModule = "wherry"
	yieldName  = "yield"
)

// maxTable bounds the entries of all tables of a module together: their 8 bytes
// each are counted by no memory limit.
const maxTable = 1 << 20

// Rewritten is a module that can be run under a Meter.
type Rewritten struct {
	Wasm []byte
	// Image is the initial content of the memory from ImageOffset on; nil when
	// the module's own data segments fill it. Its length and offset are
	// multiples of PageSize.
	Image       []byte
	ImageOffset uint32
	Info        *Info
}

// Rewrite adds the fuel counter, moves large data into an image and writes the
// functions of Go programs anew (gocode.go). It is pure and deterministic. It accepts what wazero accepts, in the features that
// Features lists, and its result is valid exactly if the input is; it does not
// validate all of it.
func Rewrite(wasm []byte) (*Rewritten, error) { return rewrite(wasm, false) }

// rewrite is Rewrite; with keepData there is never an image.
func rewrite(wasm []byte, keepData bool) (*Rewritten, error) {
	p, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	out := &Rewritten{Info: p.info()}
	if out.Info.GoModule {
		p.improveGo()
	}
	w := &bodyWriter{p: p, fuel: p.globals, yield: p.imported}
	code, err := w.codeSection(len(wasm))
	if err != nil {
		return nil, err
	}
	if !w.usesData && !keepData {
		out.Image, out.ImageOffset = buildImage(p)
	}
	if out.Wasm, err = p.assemble(w, code, out.Image != nil); err != nil {
		return nil, err
	}
	return out, nil
}

func (w *bodyWriter) codeSection(size int) ([]byte, error) {
	w.room = leastRoom + size/2
	if err := w.plan(); err != nil {
		return nil, err
	}
	code := appendU32(make([]byte, 0, size+size/8), uint32(len(w.p.bodies))+w.added())
	var body []byte
	for i, b := range w.p.bodies {
		var err error
		if body, err = w.rewrite(body[:0], b, w.p.imported+uint32(i)); err != nil {
			return nil, err
		}
		code = append(appendU32(code, uint32(len(body))), body...)
	}
	return w.appendAdded(code), nil
}

// assemble writes the module anew, with yield behind the imported functions
// and the fuel behind the globals.
func (p *parsed) assemble(w *bodyWriter, code []byte, dropData bool) ([]byte, error) {
	out := append(make([]byte, 0, len(code)+len(p.dataRaw)+1<<16), "\x00asm\x01\x00\x00\x00"...)
	types := append(appendU32(nil, w.addedType(addedTypes)), p.typeRaw...)
	types = append(types, 0x60, 1, typeI64, 1, typeI64)
	types = append(types, 0x60, 0, 0)
	types = append(types, 0x60, 2, typeI32, typeI32, 0)
	out = appendSection(out, secType, append(types, 0x60, 3, typeI32, typeI32, typeI32, 0))
	imports := append(appendU32(nil, uint32(len(p.imports)+1)), p.importRaw...)
	imports = append(appendName(appendName(imports, hostModule), yieldName), kindFunction)
	out = appendSection(out, secImport, appendU32(imports, w.addedType(addedYield)))
	if len(p.bodies) > 0 {
		funcs := appendU32(nil, uint32(len(p.bodies))+w.added())
		for _, t := range p.funcs[p.imported:] {
			funcs = appendU32(funcs, t)
		}
		funcs = appendU32(funcs, w.addedType(addedRefuel))
		for range w.pieces.count() {
			funcs = appendU32(funcs, w.addedType(addedThree))
		}
		out = appendSection(out, secFunction, funcs)
	}
	out, err := p.appendTables(out, w.growTable)
	if err != nil {
		return nil, err
	}
	if len(p.memories) > 0 {
		out = appendSection(out, secMemory, appendLimits(appendU32(nil, uint32(len(p.memories))), p.memories[0]))
	}
	if p.tagRaw != nil {
		out = appendSection(out, secTag, p.tagRaw)
	}
	if out, err = p.appendGlobals(out); err != nil {
		return nil, err
	}
	if out, err = p.appendExports(out); err != nil {
		return nil, err
	}
	if out, err = p.appendElements(out); err != nil {
		return nil, err
	}
	if p.dataCount != nil && !dropData {
		out = appendSection(out, secDataCount, appendU32(nil, *p.dataCount))
	}
	if len(p.bodies) > 0 {
		out = appendSection(out, secCode, code)
	}
	if p.dataRaw != nil && !dropData {
		if err := p.checkData(); err != nil {
			return nil, err
		}
		out = appendSection(out, secData, p.dataRaw)
	}
	return p.appendNames(out), nil
}

func appendLimits(b []byte, l limits) []byte {
	if !l.bounded {
		return appendU32(append(b, 0), l.min)
	}
	return appendU32(appendU32(append(b, 1), l.min), l.max)
}

// appendTables bounds every table that can grow.
func (p *parsed) appendTables(out []byte, grow bool) ([]byte, error) {
	if p.tables == nil {
		return out, nil
	}
	raw := appendU32(nil, uint32(len(p.tables)))
	total, most := uint64(0), uint32(maxTable/max(1, len(p.tables)))
	for _, t := range p.tables {
		if t.bounded && t.max < t.min {
			return nil, invalid("a table's maximum %d is less than its minimum %d", t.max, t.min)
		}
		if total += uint64(t.min); total > maxTable {
			return nil, invalid("the tables have more than %d entries, the most that is supported", maxTable)
		}
		if grow && (!t.bounded || t.max > most) {
			t.bounded, t.max = true, max(t.min, most)
		}
		raw = appendLimits(append(raw, t.elem), t.limits)
	}
	return appendSection(out, secTable, raw), nil
}

func (p *parsed) appendGlobals(out []byte) ([]byte, error) {
	own := p.globals
	for _, e := range p.imports {
		if e.kind == kindGlobal {
			own--
		}
	}
	raw := appendU32(nil, own+1)
	r := &reader{b: p.globalRaw}
	for ; own > 0 && r.err == nil; own-- {
		raw = append(raw, r.valueType(), r.u8())
		raw = p.appendConstant(raw, r)
	}
	// The fuel: a mutable i64 that begins at 0, so that the first charge asks
	// the meter how much there is.
	raw = append(raw, typeI64, 1, opI64Const, 0, opEnd)
	return appendSection(out, secGlobal, raw), r.failure()
}

func (p *parsed) appendExports(out []byte) ([]byte, error) {
	if len(p.exports) == 0 && p.start == nil {
		return out, nil
	}
	raw := appendU32(nil, uint32(len(p.exports)))
	for _, e := range p.exports {
		switch {
		case e.kind == kindFunction && int(e.index) >= len(p.funcs),
			e.kind == kindGlobal && e.index >= p.globals:
			return nil, invalid("export %q names an unknown %s %d", e.name, kindName(e.kind), e.index)
		case e.kind == kindFunction:
			e.index = p.moved(e.index)
		}
		raw = appendU32(append(appendName(raw, e.name), e.kind), e.index)
	}
	out = appendSection(out, secExport, raw)
	if p.start == nil {
		return out, nil
	}
	if int(*p.start) >= len(p.funcs) {
		return nil, invalid("the start section names unknown function %d", *p.start)
	}
	return appendSection(out, secStart, appendU32(nil, p.moved(*p.start))), nil
}

// moved is the new index of function f.
func (p *parsed) moved(f uint32) uint32 {
	if f >= p.imported {
		return f + 1
	}
	return f
}

// appendFunction copies a function index from r.
func (p *parsed) appendFunction(dst []byte, r *reader) []byte {
	f := r.u32()
	if r.err == nil && int(f) >= len(p.funcs) {
		r.fail("the module names unknown function %d", f)
	}
	return appendU32(dst, p.moved(f))
}

// appendConstant copies a constant expression with moved function indices.
func (p *parsed) appendConstant(dst []byte, r *reader) []byte {
	var in instr
	for r.err == nil {
		r.next(&in)
		if r.err != nil {
			break
		}
		switch in.op {
		case opRefFunc:
			r.off = in.imm
			dst = p.appendFunction(append(dst, opRefFunc), r)
			continue
		case opGlobalGet:
			if in.index >= p.globals {
				r.fail("a constant names unknown global %d", in.index)
			}
		}
		if r.err == nil {
			dst = append(dst, r.b[in.start:r.off]...)
		}
		if in.op == opEnd {
			return dst
		}
	}
	return dst
}

// appendElements copies the element section (WebAssembly 2.0, 5.5.12).
func (p *parsed) appendElements(out []byte) ([]byte, error) {
	if p.elemRaw == nil {
		return out, nil
	}
	r := &reader{b: p.elemRaw}
	raw := appendU32(make([]byte, 0, len(p.elemRaw)+len(p.elemRaw)/4+8), p.elements)
	for n := p.elements; n > 0 && r.err == nil; n-- {
		flags := r.u32()
		if flags > 7 {
			r.fail("unknown kind %d of an element segment", flags)
			break
		}
		raw = appendU32(raw, flags)
		if flags&1 == 0 { // active
			if flags&2 != 0 {
				raw = appendU32(raw, r.u32())
			}
			raw = p.appendConstant(raw, r)
		}
		if flags&3 != 0 { // an element kind or reference type
			raw = append(raw, r.u8())
		}
		items := r.count("elements")
		raw = appendU32(raw, uint32(items))
		for ; items > 0 && r.err == nil; items-- {
			if flags&4 == 0 {
				raw = p.appendFunction(raw, r)
			} else {
				raw = p.appendConstant(raw, r)
			}
		}
	}
	if r.err == nil && !r.done() {
		r.fail("the element section holds %d bytes too many", len(r.b)-r.off)
	}
	return appendSection(out, secElement, raw), r.failure()
}

// checkData makes sure that no segment's offset names the fuel.
func (p *parsed) checkData() error {
	r := &reader{b: p.dataRaw}
	for n := r.count("data segments"); n > 0 && r.err == nil; n-- {
		flags := r.u32()
		if flags == 2 {
			r.u32()
		}
		if flags != 1 {
			p.appendConstant(nil, r)
		}
		r.take(r.u32())
	}
	return r.failure()
}

// appendNames keeps the names of functions, which stack traces show; all other
// custom sections (debug information speaks of offsets that have moved) go.
func (p *parsed) appendNames(out []byte) []byte {
	for _, c := range p.customs {
		if c.name != "name" {
			continue
		}
		r := &reader{b: c.payload}
		for !r.done() && r.err == nil {
			id := r.u8()
			sub := r.take(r.u32())
			if id != 1 || r.err != nil {
				continue
			}
			if names, ok := p.movedNames(sub); ok {
				out = appendSection(out, secCustom, appendSection(appendName(nil, "name"), 1, names))
			}
			return out
		}
	}
	return out
}

func (p *parsed) movedNames(sub []byte) ([]byte, bool) {
	r := &reader{b: sub}
	n := r.count("names")
	// yield's own name comes between imported and defined functions, so that
	// indices keep rising as the format asks.
	var names []byte
	yielded, written, last := false, uint32(0), int64(-1)
	put := func(index uint32, name string) {
		names = appendName(appendU32(names, index), name)
		written++
	}
	for ; n > 0; n-- {
		index, name := r.u32(), r.name()
		if r.err != nil || int64(index) <= last || int(index) >= len(p.funcs) {
			return nil, false
		}
		last = int64(index)
		if index >= p.imported && !yielded {
			put(p.imported, hostModule+"."+yieldName)
			yielded = true
		}
		put(p.moved(index), name)
	}
	return append(appendU32(nil, written), names...), r.done()
}
