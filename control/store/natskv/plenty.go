package natskv

import (
	"sync"
	"time"
)

const (
	// lookAgain is how long a disk with much space is not looked at again.
	lookAgain = 100 * time.Millisecond
	// muchSpace is more than a disk takes in that time.
	muchSpace = 1 << 30
)

// plenty remembers that a disk had much more space than was needed a moment
// ago, so that not each write has to ask the kernel. It is safe for concurrent use.
type plenty struct {
	mu   sync.Mutex
	free uint64
	at   time.Time
}

// found notes how much is free now.
func (p *plenty) found(free uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free, p.at = free, time.Now()
}

// left tells that certainly more than need is free.
func (p *plenty) left(need uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free > muchSpace && p.free-muchSpace > need && time.Since(p.at) < lookAgain
}
