package module

// When data becomes an image. Below, copying segments is cheaper than the
// pages that copy-on-write splits off; many small segments cost more to apply
// than their bytes say (Go's linker writes tens of thousands).
const (
	imageMinBytes    = 64 << 10
	imageMinSegments = 512
	imageMaxBytes    = 512 << 20
)

// buildImage lays all data segments out as instantiation would. It returns nil
// where they have to stay: the caller has made sure that no code names them.
func buildImage(p *parsed) (image []byte, offset uint32) {
	if len(p.memories) == 0 {
		return nil, 0
	}
	limit := uint64(p.memories[0].min) * PageSize
	first, end, bytes, active := limit, uint64(0), uint64(0), 0
	for _, d := range p.data {
		if !d.active {
			continue
		}
		from, to := uint64(d.offset), uint64(d.offset)+uint64(len(d.init))
		if !d.fixed || to > limit {
			return nil, 0 // computed, or out of bounds: wazero says so
		}
		bytes += uint64(len(d.init))
		active++
		if len(d.init) > 0 {
			first, end = min(first, from), max(end, to)
		}
	}
	if bytes == 0 || bytes < imageMinBytes && active < imageMinSegments {
		return nil, 0
	}
	first = first / PageSize * PageSize
	end = (end + PageSize - 1) / PageSize * PageSize
	if size := end - first; size > imageMaxBytes || size > 16<<20+8*bytes {
		return nil, 0 // mostly holes
	}
	image = make([]byte, end-first)
	for _, d := range p.data {
		if d.active {
			copy(image[uint64(d.offset)-min(first, uint64(d.offset)):], d.init)
		}
	}
	return image, uint32(first)
}
