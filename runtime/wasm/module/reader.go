package module

import (
	"encoding/binary"
	"unicode/utf8"
)

// reader walks over WebAssembly's binary format. The first failure sticks:
// every later read yields zero and err stays.
type reader struct {
	b   []byte
	off int
	err *InvalidError
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = invalid(format, args...)
	}
	r.off = len(r.b)
}

// failure is err as an error, nil when there is none.
func (r *reader) failure() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

func (r *reader) done() bool { return r.off >= len(r.b) }

func (r *reader) u8() byte {
	if r.off >= len(r.b) {
		r.fail("the module is truncated: bytes end in the middle of an item; build or download it again")
		return 0
	}
	r.off++
	return r.b[r.off-1]
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.u8()
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail("a number is longer than 32 bits")
	return 0
}

// signed reads a signed LEB128 number of at most bits bits.
func (r *reader) signed(bits int) int64 {
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		c := r.u8()
		v |= int64(c&0x7f) << shift
		if c < 0x80 {
			if n := shift + 7; n < 64 {
				v = v << (64 - n) >> (64 - n)
			}
			return v
		}
	}
	r.fail("a number is longer than %d bits", bits)
	return 0
}

// take returns the next n bytes, which stay part of the module.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.off) {
		r.fail("the module is truncated: %d bytes are announced, %d are left; build or download it again", n, len(r.b)-r.off)
		return nil
	}
	r.off += int(n)
	return r.b[r.off-int(n) : r.off]
}

func (r *reader) name() string {
	b := r.take(r.u32())
	if !utf8.Valid(b) {
		r.fail("a name is not valid UTF-8")
	}
	return string(b)
}

// count reads the length of a vector whose items take at least one byte each.
func (r *reader) count(what string) int {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.off) {
		r.fail("the module is truncated: it announces %d %s in %d bytes; build or download it again", n, what, len(r.b)-r.off)
		return 0
	}
	return int(n)
}

func appendU32(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte { return append(appendU32(b, uint32(len(s))), s...) }

func appendSection(b []byte, id byte, payload []byte) []byte {
	return append(appendU32(append(b, id), uint32(len(payload))), payload...)
}
