package wasi

import "sync"

// jobs are a guest's helper goroutines: dials, lookups, a reader of its input.
type jobs struct{ wg sync.WaitGroup }

func (j *jobs) run(f func()) { j.wg.Go(f) }

func (j *jobs) wait() { j.wg.Wait() }
