package module

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
)

// page is a page of a memory.
func page(b []byte, n int) []byte { return b[n*systemPage : (n+1)*systemPage] }

// trimmed trims a memory to its end and returns in how many steps.
func trimmed(r *region, size uint64) (steps int) {
	for at := uint64(0); at < size; steps++ {
		at = r.trim(at, size)
	}
	return steps
}

// tellsPages skips where the system does not tell which pages there are.
func tellsPages(t *testing.T, r *region) {
	t.Helper()
	if _, ok := r.own(systemPage); !ok || os.Getpagesize() != systemPage {
		t.Skip("the system does not tell which pages are in use")
	}
}

// TestTrimGivesBack: what is of no use goes, what is of use stays, and the guest
// cannot tell.
func TestTrimGivesBack(t *testing.T) {
	const size, from = 4 << 20, 1 << 20
	content := bytes.Repeat([]byte{7}, 64*systemPage)
	clear(page(content, 9)) // a hole
	img, err := newImage(content, from)
	if err != nil {
		t.Fatal(err)
	}
	defer img.close()
	r, err := newRegion(size, 2*size, img)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	tellsPages(t, r)
	first := from / systemPage // of the image
	own := func() uint64 {
		n, _ := r.own(size)
		return n / systemPage
	}

	b := r.bytes(size)
	if n := own(); n != 0 {
		t.Fatalf("a memory that nobody has touched has %d pages", n)
	}
	for n := range 100 { // used, and then cleared
		page(b, n)[n] = 1
		page(b, n)[n] = 0
	}
	page(b, 3)[systemPage-1] = 1
	page(b, 50)[0] = 1
	for n := first; n < first+64; n++ { // read
		if page(b, n)[5] != content[(n-first)*systemPage+5] {
			t.Fatalf("page %d of the image is not there", n-first)
		}
	}
	page(b, first+1)[0] = 8     // written
	clear(page(b, first+2))     // cleared, which the image is not
	page(b, first+9)[1] = 1     // written where the image has nothing
	page(b, first+3)[0] = 7     // written as it was
	page(b, first+64)[1000] = 1 // behind the image
	if n := own(); n != 105 {
		t.Fatalf("the memory has %d pages, 105 were written", n)
	}
	want := bytes.Clone(b)
	trimmed(r, size)
	if n := own(); n != 7 {
		t.Errorf("after the trim it has %d pages, 7 differ from what was there at first or may do so", n)
	}
	if !bytes.Equal(b, want) {
		t.Error("the guest sees something else")
	}
	if !r.ensure(2*size, 4*size) || !bytes.Equal(r.bytes(size), want) {
		t.Error("after it has grown, the guest sees something else")
	}
}

// TestTrimChangesNothing: memories of all kinds are the same after a trim.
func TestTrimChangesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 256*systemPage)
	for n := range 128 {
		page(content, 2*n)[rng.IntN(systemPage)] = byte(n + 1)
	}
	file, err := newImage(content, 2*PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer file.close()
	copied := &image{bytes: content, offset: 2 * PageSize, size: uint64(len(content))}
	for name, img := range map[string]*image{"mapped image": file, "copied image": copied, "no image": nil} {
		const pages = 4096
		size := uint64(pages * systemPage)
		r, err := newRegion(size, 4*size, img)
		if err != nil {
			t.Fatal(err)
		}
		tellsPages(t, r)
		for round := range 8 {
			b := r.bytes(size)
			for range rng.IntN(2 * pages) {
				switch p := page(b, rng.IntN(pages)); rng.IntN(4) {
				case 0:
					clear(p)
				case 1:
					_ = p[rng.IntN(systemPage)]
				default:
					p[rng.IntN(systemPage)] = byte(rng.IntN(3))
				}
			}
			want := bytes.Clone(b)
			before, _ := r.own(size)
			steps := trimmed(r, size)
			after, _ := r.own(size)
			if after > before || steps < 1 {
				t.Errorf("%s, round %d: %d bytes before, %d after %d steps", name, round, before, after, steps)
			}
			if !bytes.Equal(r.bytes(size), want) {
				t.Fatalf("%s, round %d: the guest sees something else", name, round)
			}
			if round == 4 && !r.ensure(2*size, 4*size) {
				t.Fatal("it cannot grow")
			}
		}
		r.release()
	}
}
