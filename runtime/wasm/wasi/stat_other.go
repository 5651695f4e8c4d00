//go:build !linux

package wasi

import (
	"io/fs"
	"os"
	"time"
)

// fromHost adds nothing here: one link and the time of modification are what
// every system has.
func (s *filestat) fromHost(fs.FileInfo) {}

// chtimes goes by the path that the file was opened by, because os has no
// other way; if that leads to another file by now, there is no way at all.
func (f *file) chtimes(accessed, modified time.Time) Errno {
	at, errno := f.tree.locate(f.path)
	if errno != OK {
		return errno
	}
	now, err := at.root.Stat(at.name)
	if err != nil {
		return toErrno(err)
	}
	was, err := f.f.Stat()
	if err != nil {
		return toErrno(err)
	}
	if !os.SameFile(was, now) {
		return ENOTSUP
	}
	return toErrno(at.root.Chtimes(at.name, accessed, modified))
}
