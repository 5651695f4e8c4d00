package app_test

import "slices"

// Guests made by hand, instruction by instruction: what a compiler would not
// make, or what it would need a megabyte for.

// code is the body of a function in the binary format.
type code []byte

// wasmModule assembles a module with one memory, the given imported functions
// and one exported function with one local of type i32.
func wasmModule(export string, pages uint32, body code, imports ...wasmImport) []byte {
	types := [][]byte{{0x60, 0, 0}} // type 0: () -> ()
	var imported []byte
	for _, i := range imports {
		imported = slices.Concat(imported, wasmName(i.module), wasmName(i.name), []byte{0}, leb(uint32(len(types))))
		types = append(types, i.signature)
	}
	out := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	section := func(id byte, count int, content []byte) {
		content = append(leb(uint32(count)), content...)
		out = slices.Concat(out, []byte{id}, leb(uint32(len(content))), content)
	}
	section(1, len(types), slices.Concat(types...))
	if len(imports) > 0 {
		section(2, len(imports), imported)
	}
	section(3, 1, []byte{0})
	section(5, 1, append([]byte{0}, leb(pages)...))
	section(7, 2, slices.Concat(wasmName("memory"), []byte{2, 0}, wasmName(export), []byte{0}, leb(uint32(len(imports)))))
	function := slices.Concat([]byte{1, 1, 0x7f}, body, []byte{0x0b})
	section(10, 1, append(leb(uint32(len(function))), function...))
	return out
}

// wasmImport is an imported function; signature is its type in the binary format.
type wasmImport struct {
	module, name string
	signature    []byte
}

var (
	procExit = wasmImport{"wasi_snapshot_preview1", "proc_exit", []byte{0x60, 1, 0x7f, 0}}
	fdWrite  = wasmImport{"wasi_snapshot_preview1", "fd_write", []byte{0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f}}
	unknown  = wasmImport{"wasi_snapshot_preview1", "thread_spawn", []byte{0x60, 1, 0x7f, 1, 0x7f}}
)

func wasmName(s string) []byte { return append(leb(uint32(len(s))), s...) }

func leb(n uint32) []byte {
	var out []byte
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

// i32 pushes a constant.
func i32(n int32) code {
	out := code{0x41}
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

// The guests.
var (
	returns     = wasmModule("_start", 1, nil)
	traps       = wasmModule("_start", 1, code{0x00})
	library     = wasmModule("run", 1, nil)
	needsMore   = wasmModule("_start", 1, nil, unknown)
	fourMiB     = wasmModule("_start", 64, nil)
	growsAndDie = wasmModule("_start", 1, slices.Concat(i32(1000), code{0x40, 0, 0x1a, 0x00}))
	component   = []byte{0, 'a', 's', 'm', 0x0d, 0, 1, 0}
	notWasm     = []byte("#!/bin/sh\necho hello\n")
	truncated   = traps[:len(traps)-3]
	floods      = wasmModule("_start", 2, floodCode(), fdWrite)
)

func exits(status int32) []byte {
	return wasmModule("_start", 1, slices.Concat(i32(status), code{0x10, 0}), procExit)
}

const (
	floodLine  = 6000
	floodLines = 17500 // a hundred megabytes
)

// floodCode writes lines of 'x' to the standard output and returns.
func floodCode() code {
	return slices.Concat(
		i32(1024), i32('x'), i32(floodLine-1), code{0xfc, 0x0b, 0}, // memory.fill
		i32(1024+floodLine-1), i32('\n'), code{0x3a, 0, 0}, // i32.store8
		i32(0), i32(1024), code{0x36, 2, 0}, // the vector: address,
		i32(4), i32(floodLine), code{0x36, 2, 0}, // length
		code{0x03, 0x40},                                    // loop
		i32(1), i32(0), i32(1), i32(8), code{0x10, 0, 0x1a}, // fd_write, drop
		code{0x20, 0}, i32(1), code{0x6a, 0x22, 0}, i32(floodLines), code{0x49, 0x0d, 0}, // again while less
		code{0x0b},
	)
}
