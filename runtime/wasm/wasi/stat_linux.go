package wasi

import (
	"io/fs"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fromHost adds what only the host's own structure tells.
func (s *filestat) fromHost(info fs.FileInfo) {
	host, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	s.inode, s.links = host.Ino, uint64(host.Nlink)
	s.accessed = uint64(host.Atim.Nano())
	s.change = uint64(host.Ctim.Nano())
	s.harmless = s.kind == typeCharDevice && unix.Major(uint64(host.Rdev)) == 1 &&
		slices.Contains(harmlessDevices, unix.Minor(uint64(host.Rdev)))
}

// harmlessDevices are the minors of null, zero, full, random and urandom, which
// container runtimes allow everybody.
var harmlessDevices = []uint32{3, 5, 7, 8, 9}

// chtimes is futimens(3), which os lacks: utimensat(2) without a path.
func (f *file) chtimes(accessed, modified time.Time) Errno {
	const utimeOmit = 1<<30 - 2 // UTIME_OMIT
	times := [2]unix.Timespec{{Nsec: utimeOmit}, {Nsec: utimeOmit}}
	for i, t := range [2]time.Time{accessed, modified} {
		if !t.IsZero() {
			times[i] = unix.NsecToTimespec(t.UnixNano())
		}
	}
	raw, err := f.f.SyscallConn()
	if err != nil {
		return toErrno(err)
	}
	var failed syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, failed = unix.Syscall6(unix.SYS_UTIMENSAT, fd, 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	})
	if err == nil && failed != 0 {
		err = failed
	}
	return toErrno(err)
}
