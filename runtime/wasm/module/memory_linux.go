package module

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// image is the initial content of a memory, in a file without a name that is
// mapped copy-on-write: pages that a guest only reads exist once.
type image struct {
	file   *os.File // nil: the kernel has no memfd, content is copied
	bytes  []byte   // set when file is nil
	offset uint64
	size   uint64
}

func newImage(content []byte, offset uint32) (*image, error) {
	img := &image{offset: uint64(offset), size: uint64(len(content))}
	fd, err := unix.MemfdCreate("wasm-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		img.bytes = content
		return img, nil //nolint:nilerr // copying is slower and as right
	}
	img.file = os.NewFile(uintptr(fd), "wasm-image")
	if err := fillImage(img.file, content); err != nil {
		return nil, errors.Join(fmt.Errorf("fill a memory image of %d bytes: %w", len(content), err), img.file.Close())
	}
	return img, nil
}

// fillImage leaves pages of zeros as holes and seals the file, so that no
// mapping can ever lose its pages.
func fillImage(f *os.File, content []byte) error {
	if err := f.Truncate(int64(len(content))); err != nil {
		return err
	}
	zeros := make([]byte, systemPage)
	for at := 0; at < len(content); at += len(zeros) {
		part := content[at:min(at+len(zeros), len(content))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(at)); err != nil {
			return err
		}
	}
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	return err
}

// close frees the image; memories that map it keep their pages.
func (i *image) close() error {
	if i == nil || i.file == nil {
		return nil
	}
	return i.file.Close()
}

// region is a reserved range of addresses whose pages come when touched and go
// when released.
type region struct {
	base     unsafe.Pointer
	reserved uintptr
	// file is the part that maps the image: it is moved on its own.
	fileFrom, fileTo uintptr
}

// mapAnonymous reserves pages of zeros. MAP_NORESERVE keeps untouched ones out
// of the system's account. Huge pages are off: thousands of small memories
// side by side would become resident in units of 2 MiB.
func mapAnonymous(size uintptr) (unsafe.Pointer, error) {
	p, err := unix.MmapPtr(-1, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap (see vm.max_map_count and the process's address space limit): %w", err)
	}
	// A kernel without huge pages answers EINVAL, which is as good.
	_ = unix.Madvise(unsafe.Slice((*byte)(p), size), unix.MADV_NOHUGEPAGE)
	return p, nil
}

func newRegion(need, limit uint64, img *image) (*region, error) {
	size := uintptr(max(headroom(need, limit), PageSize))
	base, err := mapAnonymous(size)
	if err != nil {
		return nil, err
	}
	r := &region{base: base, reserved: size}
	switch {
	case img == nil:
	case img.offset+img.size > need:
		err = fmt.Errorf("the memory image ends at %d", img.offset+img.size)
	case img.file == nil:
		copy(r.bytes(need)[img.offset:], img.bytes)
	default:
		err = r.mapImage(img)
	}
	if err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

func (r *region) mapImage(img *image) error {
	at := unsafe.Add(r.base, img.offset)
	_, err := unix.MmapPtr(int(img.file.Fd()), 0, at, uintptr(img.size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("map the memory image: %w", err)
	}
	r.fileFrom, r.fileTo = uintptr(img.offset), uintptr(img.offset+img.size)
	return nil
}

func (r *region) bytes(size uint64) []byte { return unsafe.Slice((*byte)(r.base), size) }

// ensure makes room for size bytes, elsewhere if need be: pages are moved, not
// copied.
func (r *region) ensure(size, limit uint64) bool {
	if uintptr(size) <= r.reserved {
		return true
	}
	wide := uintptr(headroom(size, limit))
	base, err := mapAnonymous(wide)
	if err != nil {
		return false
	}
	r.move(base, 0, r.fileFrom)
	r.move(base, r.fileFrom, r.fileTo)
	r.move(base, r.fileTo, r.reserved)
	r.base, r.reserved = base, wide
	return true
}

// move moves the pages of [from, to) to the same offsets behind base.
func (r *region) move(base unsafe.Pointer, from, to uintptr) {
	if from >= to {
		return
	}
	old, dst, n := unsafe.Add(r.base, from), unsafe.Add(base, from), to-from
	if _, err := unix.MremapPtr(old, n, dst, n, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED); err == nil {
		return
	}
	// The target may be gone or not, by the reason of the failure: map it anew.
	if _, err := unix.MmapPtr(-1, 0, dst, n, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE|unix.MAP_FIXED); err != nil {
		// A part of the old range may belong to somebody else by now: nothing
		// of it may be given back any more.
		r.base = nil
		panic(fmt.Sprintf("guest memory was lost while it grew: %v", err))
	}
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(old), n))
	_ = unix.MunmapPtr(old, n)
}

// release gives everything back to the system.
func (r *region) release() {
	if r.base != nil {
		// It can only fail for arguments that are no mapping.
		_ = unix.MunmapPtr(r.base, r.reserved)
		r.base = nil
	}
}
