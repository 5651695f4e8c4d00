package wasi

import (
	"encoding/binary"
	"io/fs"
	"time"
)

// filestat is the specification's filestat.
type filestat struct {
	device, inode, links, size uint64
	kind                       byte
	harmless                   bool   // a device that every container may use
	accessed, modified, change uint64 // nanoseconds
}

const filestatSize = 64

func (t *tree) filestat(info fs.FileInfo) filestat {
	modified := uint64(info.ModTime().UnixNano())
	s := filestat{
		device: t.device, links: 1, size: uint64(info.Size()), kind: fileKind(info.Mode()),
		accessed: modified, modified: modified, change: modified,
	}
	s.fromHost(info)
	return s
}

func fileKind(mode fs.FileMode) byte {
	switch mode.Type() {
	case 0:
		return typeRegular
	case fs.ModeDir:
		return typeDirectory
	case fs.ModeSymlink:
		return typeSymlink
	case fs.ModeSocket:
		return typeSocketStream
	case fs.ModeDevice | fs.ModeCharDevice:
		return typeCharDevice
	}
	return typeUnknown
}

func (m memory) putFilestat(addr uint64, s filestat) Errno {
	b, ok := m.bytes(addr, filestatSize)
	if !ok {
		return EFAULT
	}
	clear(b)
	binary.LittleEndian.PutUint64(b[0:], s.device)
	binary.LittleEndian.PutUint64(b[8:], s.inode)
	b[16] = s.kind
	binary.LittleEndian.PutUint64(b[24:], s.links)
	binary.LittleEndian.PutUint64(b[32:], s.size)
	binary.LittleEndian.PutUint64(b[40:], s.accessed)
	binary.LittleEndian.PutUint64(b[48:], s.modified)
	binary.LittleEndian.PutUint64(b[56:], s.change)
	return OK
}

// newTimes decodes the times that a call sets; the zero time is left as it is.
func newTimes(accessed, modified, flags uint64) (a, m time.Time, _ Errno) {
	const setAccess, accessNow, setModify, modifyNow = 1, 2, 4, 8
	if flags&(setAccess|accessNow) == setAccess|accessNow ||
		flags&(setModify|modifyNow) == setModify|modifyNow || flags > 15 {
		return a, m, EINVAL
	}
	now := time.Now()
	choose := func(set, toNow bool, at uint64) time.Time {
		switch {
		case toNow:
			return now
		case set:
			return time.Unix(0, int64(at))
		}
		return time.Time{}
	}
	return choose(flags&setAccess != 0, flags&accessNow != 0, accessed),
		choose(flags&setModify != 0, flags&modifyNow != 0, modified), OK
}

// setTimes changes the times of a place; flags say which and from where.
func (p place) setTimes(accessed, modified, flags uint64) Errno {
	a, m, errno := newTimes(accessed, modified, flags)
	if errno != OK {
		return errno
	}
	if p.readOnly || p.root == nil {
		return EROFS
	}
	return toErrno(p.root.Chtimes(p.name, a, m))
}

// setTimes changes the times of an open file, whatever its name is now.
func (f *file) setTimes(accessed, modified, flags uint64) Errno {
	a, m, errno := newTimes(accessed, modified, flags)
	if errno != OK {
		return errno
	}
	if f.readOnly {
		return EROFS
	}
	return f.chtimes(a, m)
}
