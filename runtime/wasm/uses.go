package wasm

import (
	"slices"
	"sync"

	"wherry.dev/wherry/runtime/sandbox"
)

// keepUnused is how many modules that no container uses stay in memory: enough
// for what restarts, rolls back and forth or runs as short jobs. A module that
// was unloaded is read from the disk again, which takes a Go server some
// hundred milliseconds, and no compiler.
const keepUnused = 8

// uses counts the users of each module and unloads those that have had none
// for the longest time. Without it every version that was ever deployed would
// stay, a Go server with tens of megabytes.
type uses struct {
	unload func(sum string)

	mu     sync.Mutex
	users  map[string]int
	unused []string // the longest unused first
}

func newUses(unload func(sum string)) uses { return uses{unload: unload, users: map[string]int{}} }

// acquire counts a user; the function that it returns takes it back, once.
func (u *uses) acquire(sum string) (release func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users[sum]++
	u.unused = slices.DeleteFunc(u.unused, func(other string) bool { return other == sum })
	return sync.OnceFunc(func() { u.release(sum) })
}

// release unloads under the lock, so that nobody acquires what is being
// unloaded.
func (u *uses) release(sum string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users[sum]--; u.users[sum] > 0 {
		return
	}
	delete(u.users, sum)
	u.unused = append(u.unused, sum)
	for len(u.unused) > keepUnused {
		u.unload(u.unused[0])
		u.unused = slices.Delete(u.unused, 0, 1)
	}
}

// exclude calls drop unless the module has users, and keeps them away until it
// returns.
func (u *uses) exclude(sum string, drop func() error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users[sum] > 0 {
		return sandbox.ErrInUse
	}
	u.unused = slices.DeleteFunc(u.unused, func(other string) bool { return other == sum })
	return drop()
}
