package wasi

import (
	"encoding/binary"

	"github.com/tetratelabs/wazero/api"
)

// memory is a guest's linear memory with bounds-checked access. A false result
// means that the guest gave an address outside of it: EFAULT.
type memory struct{ api.Memory }

func (m memory) put32(addr, v uint64) Errno {
	if !m.WriteUint32Le(uint32(addr), uint32(v)) {
		return EFAULT
	}
	return OK
}

func (m memory) put64(addr, v uint64) Errno {
	if !m.WriteUint64Le(uint32(addr), v) {
		return EFAULT
	}
	return OK
}

func (m memory) bytes(addr, size uint64) ([]byte, bool) {
	return m.Read(uint32(addr), uint32(size))
}

// maxPath bounds paths and names as PATH_MAX does: what the host copies of them
// is not part of the guest's memory limit.
const maxPath = 4096

// text copies a path or name.
func (m memory) text(addr, size uint64) (string, Errno) {
	if uint32(size) > maxPath {
		return "", ENAMETOOLONG
	}
	b, ok := m.bytes(addr, size)
	if !ok {
		return "", EFAULT
	}
	return string(b), OK
}

// maxVectors bounds readv and writev as POSIX's IOV_MAX does.
const maxVectors = 1024

// vectors returns the buffers that an array of {address, length} names, as
// views on the guest's memory, appended to into.
func (m memory) vectors(into [][]byte, addr, count uint64) ([][]byte, Errno) {
	if uint32(count) > maxVectors {
		return nil, EINVAL
	}
	raw, ok := m.bytes(addr, count*8)
	if !ok {
		return nil, EFAULT
	}
	for ; len(raw) > 0; raw = raw[8:] {
		b, ok := m.Read(binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:]))
		if !ok {
			return nil, EFAULT
		}
		into = append(into, b)
	}
	return into, OK
}

// strings writes a C-style array of NUL-terminated strings: pointers at table,
// bytes at data.
func (m memory) strings(list []string, table, data uint64) Errno {
	for _, s := range list {
		if errno := m.put32(table, data); errno != OK {
			return errno
		}
		dst, ok := m.bytes(data, uint64(len(s)+1))
		if !ok {
			return EFAULT
		}
		dst[copy(dst, s)] = 0
		table += 4
		data += uint64(len(s) + 1)
	}
	return OK
}

func stringsSize(list []string) (total uint64) {
	for _, s := range list {
		total += uint64(len(s) + 1)
	}
	return total
}
