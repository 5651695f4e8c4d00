package agent

import "context"

// PretendedDisk is the size of the disk of PretendDisk, in bytes.
const PretendedDisk = 10 << 30

// CollectImages does once what the node does every few minutes.
func (a *Agent) CollectImages(ctx context.Context) error { return a.collectImagesOnce(ctx) }

// PretendDisk makes the node believe that so many bytes of its disk and so many
// of a thousand inodes are free. It must be called before Run.
func (a *Agent) PretendDisk(free, inodes func() int64) {
	a.health = func() health {
		h := health{disk: free(), diskSize: PretendedDisk, inodes: inodes(), minInodes: 10 * minInodes}
		h.fewInodes = h.inodes < h.minInodes
		h.lowDisk = h.disk < minDisk || h.fewInodes
		return h
	}
}

// PretendMemory makes the node believe that so many bytes of memory are free.
// It must be called before Run.
func (a *Agent) PretendMemory(free func() int64) {
	a.health = func() health { return health{memory: free(), lowMemory: free() < minMemory} }
}
