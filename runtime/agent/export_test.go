package agent

// PretendDisk makes the node believe that so many bytes of its disk and so many
// of a thousand inodes are free. It must be called before Run.
func (a *Agent) PretendDisk(free, inodes func() int64) {
	a.health = func() health {
		h := health{disk: free(), inodes: inodes(), minInodes: 10 * minInodes}
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
