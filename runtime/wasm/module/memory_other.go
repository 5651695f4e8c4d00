//go:build !linux

package module

import "fmt"

// image is the initial content of a memory, copied into each instance.
type image struct {
	bytes  []byte
	offset uint64
}

func newImage(content []byte, offset uint32) (*image, error) {
	return &image{bytes: content, offset: uint64(offset)}, nil
}

func (i *image) close() error { return nil }

// region is a memory on Go's heap.
type region struct{ b []byte }

func newRegion(need, limit uint64, img *image) (*region, error) {
	r := &region{b: make([]byte, need)}
	if img != nil {
		if img.offset+uint64(len(img.bytes)) > need {
			return nil, fmt.Errorf("the memory image ends at %d", img.offset+uint64(len(img.bytes)))
		}
		copy(r.b[img.offset:], img.bytes)
	}
	return r, nil
}

func (r *region) bytes(size uint64) []byte { return r.b[:size] }

func (r *region) ensure(size, limit uint64) bool {
	if size <= uint64(len(r.b)) {
		return true
	}
	wide := make([]byte, size, headroom(size, limit))
	copy(wide, r.b)
	r.b = wide
	return true
}

func (r *region) release() { r.b = nil }

// own and trim: these systems do not tell which pages are in use.

func (r *region) own(uint64) (uint64, bool) { return 0, false }

func (r *region) trim(_, size uint64) uint64 { return size }
