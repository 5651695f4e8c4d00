package module

import (
	"bytes"
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel tells in /proc/self/pagemap which pages of a memory exist, and
// which of them are the image's (Documentation/admin-guide/mm/pagemap.rst).
const (
	pageMap = "/proc/self/pagemap"
	// systemPage is the size of a page where the compiler runs; with larger ones
	// nothing is counted or trimmed.
	systemPage = 4096

	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61
)

// pageMapPart is how many pages are asked for at once.
const pageMapPart = 1024

// eachPage calls f for the pages of the memory's first size bytes from offset
// from on, in order, until f returns false. ok is false where the system does
// not tell.
func (r *region) eachPage(from, size uint64, f func(offset, entry uint64) bool) (ok bool) {
	if os.Getpagesize() != systemPage {
		return false
	}
	fd, err := unix.Open(pageMap, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var entries [pageMapPart * 8]byte
	for from < size {
		part := entries[:min(pageMapPart, (size-from)/systemPage)*8]
		n, err := unix.Pread(fd, part, int64((uint64(uintptr(r.base))+from)/systemPage*8))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < 8 {
			return false
		}
		for part = part[:n/8*8]; len(part) > 0; part = part[8:] {
			if !f(from, binary.NativeEndian.Uint64(part)) {
				return true
			}
			from += systemPage
		}
	}
	return true
}

// own is how many bytes of the memory's first size bytes are in pages that
// belong to it alone.
func (r *region) own(size uint64) (own uint64, ok bool) {
	ok = r.eachPage(0, size, func(_, entry uint64) bool {
		if entry&(pagePresent|pageSwapped) != 0 && entry&pageOfFile == 0 {
			own += systemPage
		}
		return true
	})
	return own, ok
}

const (
	// trimAddresses and trimContent bound what one call of trim looks at: less
	// than a millisecond's work.
	trimAddresses = 256 << 20
	trimContent   = 4 << 20
)

// trim gives pages back that the next access finds again as they are: pages of
// zeros, and pages of the image that were only read. It looks at some of the
// first size bytes from offset from on and returns where it has come to; size:
// that was all. Nobody may use the memory meanwhile.
func (r *region) trim(from, size uint64) uint64 {
	var zeros [systemPage]byte
	var looked uint64
	at, first, found := from, from, false // [first, at) may go, and something is there to go
	drop := func() {
		if found {
			// It can only fail for arguments that are no mapping.
			_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(r.base, first)), at-first), unix.MADV_DONTNEED)
		}
	}
	ok := r.eachPage(from, min(size, from+trimAddresses), func(offset, entry uint64) bool {
		may, there := entry&pageSwapped == 0, entry&pagePresent != 0
		switch {
		case !there: // there is nothing to lose, unless it is elsewhere
		case r.ofImage(offset):
			may = entry&pageOfFile != 0
		default:
			looked += systemPage
			may = bytes.Equal(unsafe.Slice((*byte)(unsafe.Add(r.base, offset)), systemPage), zeros[:])
		}
		if !may {
			drop()
			first, found = offset+systemPage, false
		}
		found = found || may && there
		at = offset + systemPage
		return looked < trimContent
	})
	if !ok {
		return size
	}
	drop()
	return at
}

// ofImage reports whether a page comes from the image when it is gone.
func (r *region) ofImage(offset uint64) bool {
	return uint64(r.fileFrom) <= offset && offset < uint64(r.fileTo)
}
