package wasi

import (
	"errors"
	"io"
	"os"
)

// file is an open regular file (or a character device of a mount).
type file struct {
	f      *os.File
	inode  *inode // nil: its size has no bound
	tree   *tree
	path   string // in the tree, as it was opened
	rights uint64
	flags  uint16
	// opened with O_APPEND: the host positions every write itself
	appends  bool
	readOnly bool // the mount is
}

func (f *file) status() status {
	return status{kind: typeRegular, flags: f.flags, rights: f.rights}
}

func (f *file) close() Errno {
	err := f.f.Close()
	if f.inode != nil {
		f.inode.closed()
	}
	return toErrno(err)
}

// put writes b to where at says, which is where do puts it.
func (f *file) put(b []byte, at func() (int64, error), do func([]byte) (int, error)) (int, error) {
	if f.inode == nil {
		return do(b)
	}
	return f.inode.write(b, at, do)
}

// resize is put for changes of the size.
func (f *file) resize(size int64) Errno {
	if f.inode == nil {
		return toErrno(f.f.Truncate(size))
	}
	return toErrno(f.inode.resize(size, f.f.Truncate))
}

// position is where the next write goes.
func (f *file) position() (int64, error) {
	if f.appends {
		return f.f.Seek(0, io.SeekEnd)
	}
	return f.f.Seek(0, io.SeekCurrent)
}

func (f *file) may(right uint64) Errno {
	if f.rights&right == 0 {
		return EBADF
	}
	return OK
}

func (f *file) read(g *Guest, bufs [][]byte) (int, Errno) {
	if errno := f.may(rightRead); errno != OK {
		return 0, errno
	}
	return fill(g, bufs, f.f.Read)
}

func (f *file) readAt(g *Guest, bufs [][]byte, at int64) (int, Errno) {
	if errno := f.may(rightRead); errno != OK {
		return 0, errno
	}
	if at < 0 {
		return 0, EINVAL
	}
	return fill(g, bufs, func(b []byte) (int, error) {
		n, err := f.f.ReadAt(b, at)
		at += int64(n)
		return n, err
	})
}

func (f *file) write(g *Guest, bufs [][]byte) (int, Errno) {
	if errno := f.may(rightWrite); errno != OK {
		return 0, errno
	}
	// The flag may have been set after opening; then the position is ours.
	if f.flags&flagAppend != 0 && !f.appends {
		if _, err := f.f.Seek(0, io.SeekEnd); err != nil {
			return 0, toErrno(err)
		}
	}
	n, errno := drain(g, bufs, func(b []byte) (int, error) { return f.put(b, f.position, f.f.Write) })
	return n, f.synced(errno)
}

func (f *file) writeAt(g *Guest, bufs [][]byte, at int64) (int, Errno) {
	if errno := f.may(rightWrite); errno != OK {
		return 0, errno
	}
	if at < 0 {
		return 0, EINVAL
	}
	if f.appends { // as Linux does: pwrite(2), BUGS
		return f.write(g, bufs)
	}
	n, errno := drain(g, bufs, func(b []byte) (int, error) {
		n, err := f.put(b, func() (int64, error) { return at, nil }, func(b []byte) (int, error) { return f.f.WriteAt(b, at) })
		at += int64(n)
		return n, err
	})
	return n, f.synced(errno)
}

// synced flushes when a flag set after opening demands it.
func (f *file) synced(errno Errno) Errno {
	if errno == OK && f.flags&(flagDsync|flagSync|flagRsync) != 0 {
		return toErrno(f.f.Sync())
	}
	return errno
}

// allocate makes sure that the file reaches offset+size bytes.
func (f *file) allocate(offset, size uint64) Errno {
	if errno := f.may(rightWrite); errno != OK {
		return errno
	}
	end := offset + size
	if size == 0 || end < offset || int64(end) < 0 {
		return EINVAL
	}
	info, err := f.f.Stat()
	if err != nil {
		return toErrno(err)
	}
	if uint64(info.Size()) >= end {
		return OK
	}
	return f.resize(int64(end))
}

// maxPart is what is moved at once between two moments at which the guest can
// be ended: vectors that overlap may add up to terabytes.
const maxPart = 1 << 20

// parts calls move for the buffers in order, in parts, until one comes short.
func parts(g *Guest, bufs [][]byte, move func([]byte) (int, error)) (total int, _ error) {
	for _, b := range bufs {
		for len(b) > 0 {
			part := b[:min(len(b), maxPart)]
			n, err := move(part)
			total += n
			if err != nil || n < len(part) {
				return total, err
			}
			b = b[n:]
			g.checkpoint()
		}
	}
	return total, nil
}

func fill(g *Guest, bufs [][]byte, read func([]byte) (int, error)) (int, Errno) {
	total, err := parts(g, bufs, read)
	if total > 0 || errors.Is(err, io.EOF) {
		return total, OK
	}
	return 0, toErrno(err)
}

func drain(g *Guest, bufs [][]byte, write func([]byte) (int, error)) (int, Errno) {
	total, err := parts(g, bufs, write)
	if total > 0 {
		return total, OK
	}
	return 0, toErrno(err)
}
