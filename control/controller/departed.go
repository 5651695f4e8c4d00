package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// departedMost bounds how many objects are remembered for the whole time.
const departedMost = 20_000

// departed remembers the objects that were deleted not long ago. The zero value
// remembers nothing; it is safe for concurrent use.
type departed struct {
	mu          sync.Mutex
	newer, last map[types.UID]struct{}
	since       time.Time // of newer
}

// add remembers an object for as long as lasts, and up to twice as long.
func (d *departed) add(uid types.UID, now time.Time, lasts time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.newer == nil || now.Sub(d.since) >= lasts || len(d.newer) >= departedMost {
		d.newer, d.last, d.since = map[types.UID]struct{}{}, d.newer, now
	}
	d.newer[uid] = struct{}{}
}

func (d *departed) knows(uid types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, newer := d.newer[uid]
	_, last := d.last[uid]
	return newer || last
}
