package module

import (
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero/experimental"
)

// memory is the linear memory of one instance. Its bytes belong to no garbage
// collector: after Free every access through api.Memory faults, so a guest's
// module must be closed only when nothing of the guest runs any more.
type memory struct {
	region *region
	most   uint64 // what the module itself may grow to, bytes
	gauge  *Gauge // what it has and may have
	// refused is called when a growth is denied; nil: nobody asks
	refused func()
}

// Gauge shows the size of one instance's memory and bounds it. It is safe for
// concurrent use, but for what trims.
type Gauge struct {
	mu     sync.Mutex
	size   uint64
	stack  uint64  // of the calls under way, where it is worth counting
	limit  uint64  // bytes, whole pages
	pool   *Pool   // with others; nil: by itself
	region *region // where the memory is; nil: nowhere
	trims  uint64
}

// NewGauge makes a gauge with a limit in bytes, rounded down to pages of 64
// KiB; 0 means that only the module's own maximum counts.
func NewGauge(limit int64) *Gauge { return &Gauge{limit: pages(limit)} }

// In makes the gauge one of a pool's. It comes before the first use.
func (g *Gauge) In(pool *Pool) *Gauge {
	g.pool = pool
	return g
}

func pages(limit int64) uint64 {
	if limit <= 0 {
		return 1 << 62
	}
	return uint64(limit) / PageSize * PageSize
}

func (g *Gauge) bound() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// Size is the size of memory and stack in bytes: what the limit is about.
func (g *Gauge) Size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(g.size + g.stack)
}

// Held is what the system holds for memory and stack and for nobody else, in
// bytes: the memory's own pages, without those that were never touched and
// those of an image that were never written. Where the system does not tell, it
// is Size.
func (g *Gauge) Held() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.region == nil {
		return int64(g.stack)
	}
	own, ok := g.region.own(g.size)
	if !ok {
		own = g.size
	}
	return int64(own + g.stack)
}

// setStack records the size of the stack, and reports whether that is within
// the limit.
func (g *Gauge) setStack(size int64) (memory, limit int64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fits := g.pool.change(g.stack, uint64(size), true)
	g.stack = uint64(size)
	return int64(g.size), int64(g.limit), size == 0 || fits && g.size+g.stack <= g.limit
}

// SetLimit changes the limit; an error says that the memory is larger already.
func (g *Gauge) SetLimit(limit int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	wanted := pages(limit)
	if wanted < g.size+g.stack {
		return fmt.Errorf("the memory limit of %d bytes is below the %d bytes that are in use", limit, g.size+g.stack)
	}
	g.limit = wanted
	return nil
}

// Trims counts how often something of the memory may have been given back: while
// the guest waited, and at its end.
func (g *Gauge) Trims() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.trims
}

func (g *Gauge) attach(r *region) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.region = r
}

// free gives the memory back while nobody looks at it.
func (g *Gauge) free(r *region) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.release()
	g.pool.change(g.size, 0, true)
	g.size, g.region = 0, nil
	g.trims++
}

// grow records a new size if the limit allows it and do succeeds.
func (g *Gauge) grow(size uint64, do func(limit uint64) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if size+g.stack > g.limit || !g.pool.change(g.size, size, false) {
		return false
	}
	if !do(g.limit) {
		g.pool.change(size, g.size, true)
		return false
	}
	g.size = size
	return true
}

// newMemory maps need bytes, filled from image if there is one.
func newMemory(need, most uint64, gauge *Gauge, img *image) (*memory, error) {
	limit := min(most, gauge.bound())
	r, err := newRegion(need, limit, img)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of guest memory: %w", need, err)
	}
	gauge.attach(r)
	return &memory{region: r, most: most, gauge: gauge}, nil
}

// Reallocate implements experimental.LinearMemory: nil makes memory.grow
// answer -1.
func (m *memory) Reallocate(size uint64) []byte {
	if size > m.most || m.region == nil ||
		!m.gauge.grow(size, func(limit uint64) bool { return m.region.ensure(size, min(m.most, limit)) }) {
		if m.refused != nil {
			m.refused()
		}
		return nil
	}
	return m.region.bytes(size)
}

// Free implements experimental.LinearMemory and may be called more than once.
func (m *memory) Free() {
	if m.region != nil {
		m.gauge.free(m.region)
		m.region = nil
	}
}

// allocator hands out the one memory of an instance.
func (m *memory) allocator() experimental.MemoryAllocator {
	return experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return m })
}

// headroom is what to reserve for size bytes, so that growing is mostly free
// while neighbours still share page tables.
func headroom(size, limit uint64) uint64 {
	return max(size, min(limit, size+max(size/2, 256<<10)))
}
