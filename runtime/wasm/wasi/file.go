package wasi

import (
	"errors"
	"io"
	"os"
)

// file is an open regular file (or a character device of a mount).
type file struct {
	f      *os.File
	tree   *tree
	path   string // in the tree, as it was opened
	rights uint64
	flags  uint16
	// opened with O_APPEND: the host positions every write itself
	appends bool
}

func (f *file) status() status {
	return status{kind: typeRegular, flags: f.flags, rights: f.rights}
}

func (f *file) close() Errno { return toErrno(f.f.Close()) }

func (f *file) may(right uint64) Errno {
	if f.rights&right == 0 {
		return EBADF
	}
	return OK
}

func (f *file) read(bufs [][]byte) (int, Errno) {
	if errno := f.may(rightRead); errno != OK {
		return 0, errno
	}
	return fill(bufs, f.f.Read)
}

func (f *file) readAt(bufs [][]byte, at int64) (int, Errno) {
	if errno := f.may(rightRead); errno != OK {
		return 0, errno
	}
	if at < 0 {
		return 0, EINVAL
	}
	return fill(bufs, func(b []byte) (int, error) {
		n, err := f.f.ReadAt(b, at)
		at += int64(n)
		return n, err
	})
}

func (f *file) write(bufs [][]byte) (int, Errno) {
	if errno := f.may(rightWrite); errno != OK {
		return 0, errno
	}
	// The flag may have been set after opening; then the position is ours.
	if f.flags&flagAppend != 0 && !f.appends {
		if _, err := f.f.Seek(0, io.SeekEnd); err != nil {
			return 0, toErrno(err)
		}
	}
	n, errno := drain(bufs, f.f.Write)
	return n, f.synced(errno)
}

func (f *file) writeAt(bufs [][]byte, at int64) (int, Errno) {
	if errno := f.may(rightWrite); errno != OK {
		return 0, errno
	}
	if at < 0 {
		return 0, EINVAL
	}
	if f.appends { // as Linux does: pwrite(2), BUGS
		return f.write(bufs)
	}
	n, errno := drain(bufs, func(b []byte) (int, error) {
		n, err := f.f.WriteAt(b, at)
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
	return toErrno(f.f.Truncate(int64(end)))
}

func fill(bufs [][]byte, read func([]byte) (int, error)) (total int, _ Errno) {
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		n, err := read(b)
		total += n
		switch {
		case errors.Is(err, io.EOF):
			return total, OK
		case err != nil && total == 0:
			return 0, toErrno(err)
		case err != nil || n < len(b):
			return total, OK
		}
	}
	return total, OK
}

func drain(bufs [][]byte, write func([]byte) (int, error)) (total int, _ Errno) {
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		n, err := write(b)
		total += n
		if err != nil {
			if total > 0 {
				return total, OK
			}
			return 0, toErrno(err)
		}
	}
	return total, OK
}
