package module

// A small assembler: enough of the binary format to write modules by hand.

type asm struct {
	types   [][2]string // parameters and results, one letter each: i I f F
	imports []asmImport
	funcs   []asmFunc
	table   []int // function indices; nil: no table
	memory  []uint32
	globals []string // initial values as code, mutable i32
	exports []exportEntry
	start   int // function index; -1 (and 0 by newAsm): none
	data    []dataSegment
	count   bool // write a data count section
	customs []custom
}

type asmImport struct {
	module, name string
	typ          int
}

type asmFunc struct {
	typ    int
	locals string // one letter each
	code   string // without the final end
}

func newAsm() *asm { return &asm{start: -1} }

var asmTypes = map[rune]byte{'i': typeI32, 'I': typeI64, 'f': 0x7d, 'F': 0x7c}

func (a *asm) typ(params, results string) int {
	for i, t := range a.types {
		if t == [2]string{params, results} {
			return i
		}
	}
	a.types = append(a.types, [2]string{params, results})
	return len(a.types) - 1
}

// fn adds an exported function and returns its index. Imports come first.
func (a *asm) fn(name, params, results, locals, code string) int {
	a.funcs = append(a.funcs, asmFunc{a.typ(params, results), locals, code})
	index := len(a.imports) + len(a.funcs) - 1
	if name != "" {
		a.exports = append(a.exports, exportEntry{name, kindFunction, uint32(index)})
	}
	return index
}

func asmVector[T any](items []T, put func([]byte, T) []byte) []byte {
	b := appendU32(nil, uint32(len(items)))
	for _, item := range items {
		b = put(b, item)
	}
	return b
}

func asmLetters(b []byte, s string) []byte {
	b = appendU32(b, uint32(len(s)))
	for _, c := range s {
		b = append(b, asmTypes[c])
	}
	return b
}

func (a *asm) bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(present bool, id byte, payload []byte) {
		if present {
			out = appendSection(out, id, payload)
		}
	}
	section(len(a.types) > 0, secType, asmVector(a.types, func(b []byte, t [2]string) []byte {
		return asmLetters(asmLetters(append(b, 0x60), t[0]), t[1])
	}))
	section(len(a.imports) > 0, secImport, asmVector(a.imports, func(b []byte, i asmImport) []byte {
		return appendU32(append(appendName(appendName(b, i.module), i.name), kindFunction), uint32(i.typ))
	}))
	section(len(a.funcs) > 0, secFunction, asmVector(a.funcs, func(b []byte, f asmFunc) []byte {
		return appendU32(b, uint32(f.typ))
	}))
	section(a.table != nil, secTable, appendU32([]byte{1, 0x70, 0}, uint32(len(a.table))))
	section(a.memory != nil, secMemory, func() []byte {
		if len(a.memory) == 1 {
			return appendU32([]byte{1, 0}, a.memory[0])
		} else if len(a.memory) == 0 {
			return nil
		}
		return appendU32(appendU32([]byte{1, 1}, a.memory[0]), a.memory[1])
	}())
	section(len(a.globals) > 0, secGlobal, asmVector(a.globals, func(b []byte, init string) []byte {
		return append(append(append(b, typeI32, 1), init...), opEnd)
	}))
	section(len(a.exports) > 0, secExport, asmVector(a.exports, func(b []byte, e exportEntry) []byte {
		return appendU32(append(appendName(b, e.name), e.kind), e.index)
	}))
	section(a.start >= 0, secStart, appendU32(nil, uint32(a.start)))
	section(len(a.table) > 0, secElement, append([]byte{1, 0, opI32Const, 0, opEnd}, asmVector(a.table, func(b []byte, f int) []byte {
		return appendU32(b, uint32(f))
	})...))
	section(a.count, secDataCount, appendU32(nil, uint32(len(a.data))))
	section(len(a.funcs) > 0, secCode, asmVector(a.funcs, func(b []byte, f asmFunc) []byte {
		body := appendU32(nil, uint32(len(f.locals)))
		for _, c := range f.locals {
			body = append(body, 1, asmTypes[c])
		}
		body = append(append(body, f.code...), opEnd)
		return append(appendU32(b, uint32(len(body))), body...)
	}))
	section(len(a.data) > 0, secData, asmVector(a.data, func(b []byte, d dataSegment) []byte {
		if !d.active {
			b = append(b, 1)
		} else {
			b = append(appendSigned(append(b, 0, opI32Const), int64(int32(d.offset))), opEnd)
		}
		return append(appendU32(b, uint32(len(d.init))), d.init...)
	}))
	for _, c := range a.customs {
		section(true, secCustom, append(appendName(nil, c.name), c.payload...))
	}
	return out
}

// The guests of the tests.
const (
	codeSpin = "\x03\x40\x0c\x00\x0b"                                                                 // loop br 0 end
	codeSum  = "\x03\x40\x20\x01\x20\x00\x6a\x21\x01\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0b\x20\x01" // loop acc+=n; n-=1; br_if end; acc
)

// kernels: sum(n), fib(n) by recursion, spin(), grow(pages), peek(addr), poke(addr, value),
// fill(n) and size(), over a memory of min to max pages.
func kernels(memory ...uint32) *asm {
	a := newAsm()
	a.memory = memory
	a.exports = append(a.exports, exportEntry{"memory", kindMemory, 0})
	a.fn("sum", "i", "i", "i", codeSum)
	fib := len(a.funcs)
	a.fn("fib", "i", "i", "", "\x20\x00\x41\x02\x48\x04\x7f\x20\x00\x05"+
		"\x20\x00\x41\x01\x6b\x10"+string(rune(fib))+"\x20\x00\x41\x02\x6b\x10"+string(rune(fib))+"\x6a\x0b")
	a.fn("spin", "", "", "", codeSpin)
	a.fn("grow", "i", "i", "", "\x20\x00\x40\x00")
	a.fn("peek", "i", "i", "", "\x20\x00\x2d\x00\x00")
	a.fn("poke", "ii", "", "", "\x20\x00\x20\x01\x3a\x00\x00")
	a.fn("fill", "i", "", "", "\x41\x00\x41\x07\x20\x00\xfc\x0b\x00")
	a.fn("size", "", "i", "", "\x3f\x00")
	return a
}
