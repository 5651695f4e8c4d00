package agent

import "sync"

// tasks owns the goroutines that are started on demand: nothing starts any
// more once wait was called, and wait returns when all have ended.
type tasks struct {
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

// run starts f, unless the agent is ending.
func (t *tasks) run(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.group.Go(f)
	return true
}

func (t *tasks) wait() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.group.Wait()
}
