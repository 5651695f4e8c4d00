package memconn

const (
	firstBuffer = 2 << 10
	// keepBuffer bounds what an empty direction holds on to: an idle
	// connection shall be small, a busy one shall not allocate per message.
	keepBuffer = 16 << 10
)

// ring is a byte queue that grows up to MaxBuffer.
type ring struct {
	budget *Budget
	buf    []byte
	head   int
	n      int
}

// take moves bytes out to b and returns how many.
func (r *ring) take(b []byte) int {
	n := r.peek(b)
	r.head += n
	if r.head >= len(r.buf) {
		r.head -= len(r.buf)
	}
	r.n -= n
	if r.n == 0 {
		r.head = 0
		if len(r.buf) > keepBuffer {
			r.drop()
		}
	}
	return n
}

// peek copies bytes to b without moving them out.
func (r *ring) peek(b []byte) int {
	n := min(len(b), r.n)
	first := copy(b[:n], r.buf[r.head:])
	copy(b[first:n], r.buf)
	return n
}

// add appends as much of b as fits and returns how much.
func (r *ring) add(b []byte) int {
	n := min(len(b), r.most()-r.n)
	if n <= 0 {
		return 0
	}
	r.grow(r.n + n)
	tail := r.head + r.n
	if tail >= len(r.buf) {
		tail -= len(r.buf)
	}
	first := copy(r.buf[tail:], b[:n])
	copy(r.buf, b[first:n])
	r.n += n
	return n
}

func (r *ring) grow(need int) {
	if need <= len(r.buf) {
		return
	}
	size := max(firstBuffer, len(r.buf))
	for size < need {
		size *= 2
	}
	grown := make([]byte, size)
	r.budget.add(size - len(r.buf))
	n := r.peek(grown)
	r.buf, r.head, r.n = grown, 0, n
}
