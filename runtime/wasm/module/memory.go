package module

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
)

// memory is the linear memory of one instance. Its bytes belong to no garbage
// collector: after Free every access through api.Memory faults, so a guest's
// module must be closed only when nothing of the guest runs any more.
type memory struct {
	region *region
	size   uint64 // what the guest sees, bytes
	limit  uint64 // most that it may grow to, bytes
	// refused is called when a growth is denied; nil: nobody asks
	refused func()
}

// newMemory maps need bytes, filled from image if there is one.
func newMemory(need, limit uint64, img *image) (*memory, error) {
	r, err := newRegion(need, limit, img)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of guest memory: %w", need, err)
	}
	return &memory{region: r, limit: limit}, nil
}

// Reallocate implements experimental.LinearMemory: nil makes memory.grow
// answer -1.
func (m *memory) Reallocate(size uint64) []byte {
	if size > m.limit || m.region == nil || !m.region.ensure(size, m.limit) {
		if m.refused != nil {
			m.refused()
		}
		return nil
	}
	m.size = size
	return m.region.bytes(size)
}

// Free implements experimental.LinearMemory and may be called more than once.
func (m *memory) Free() {
	if m.region != nil {
		m.region.release()
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
