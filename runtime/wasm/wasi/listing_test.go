package wasi

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestListingInParts reads a directory with buffers that hold part of it, from
// one that has room for a single entry's header on.
func TestListingInParts(t *testing.T) { everywhere(t, testListingInParts) }

func testListingInParts(t *testing.T, via *door) {
	r, data := dataGuest(t, via, false)
	want := []string{".", "..", "d", "f"}
	for i := range 40 {
		name := strings.Repeat("n", 1+i) + fmt.Sprint(i)
		put(t, filepath.Join(data, name), "")
		want = append(want, name)
	}
	slices.Sort(want)
	for _, size := range []uint64{80, 100, 257, 4096} {
		var got []string
		for cookie := uint64(0); ; {
			r.must(OK, "fd_readdir", dataFD, atData, size, cookie, atResult)
			used := r.u32(atResult)
			b := []byte(r.text(atData, used))
			for len(b) >= direntSize {
				n := int(binary.LittleEndian.Uint32(b[16:]))
				if len(b) < direntSize+n {
					break
				}
				got = append(got, string(b[direntSize:direntSize+n]))
				cookie = binary.LittleEndian.Uint64(b)
				b = b[direntSize+n:]
			}
			if used < size {
				break
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("in parts of %d bytes: %q", size, got)
		}
	}
	r.must(OK, "fd_readdir", dataFD, atData, 100, ^uint64(0), atResult)
	if r.u32(atResult) != 0 {
		t.Error("there is something behind the end")
	}
	r.must(EFAULT, "fd_readdir", dataFD, atData, 1<<32-1, 0, atResult)
	r.must(ENOTDIR, "fd_readdir", 0, atData, 100, 0, atResult)
}
