package app

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// fullHeadroom is how many bytes may live in the heap before its headroom
	// begins to fall.
	fullHeadroom = 128 << 20
	// headroomEvery is how often it is adjusted.
	headroomEvery = time.Second
	// headroomStep is how exact it is, in percent: a change stops the process for
	// some microseconds.
	headroomStep = 5
)

// headroom is by how many percent of what lives the heap may grow before it is
// collected. A collection costs what lives and comes when the room is used up:
// at Go's 100 % a gigabyte of objects takes two. With room in proportion to the
// square root, memory and processor time pay alike for a larger heap
// (Kirisame et al., Optimal Heap Limits for Reducing Browser Memory Use, 2022).
func headroom(live uint64) int {
	if live <= fullHeadroom {
		return 100
	}
	return int(100*math.Sqrt(fullHeadroom/float64(live))) / headroomStep * headroomStep
}

// keepHeadroom adjusts the collector until ctx ends, unless GOGC says what the
// user wants of it.
func keepHeadroom(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(headroomEvery)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for last := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(live)
		if now := headroom(live[0].Value.Uint64()); now != last {
			debug.SetGCPercent(now)
			last = now
		}
	}
}

// keepSmall starts what keeps the process small until ctx ends. The function that
// it returns waits for the end.
func keepSmall(ctx context.Context) (wait func()) {
	var all sync.WaitGroup
	all.Go(func() { keepHeadroom(ctx) })
	all.Go(func() { keepTidy(ctx) })
	return all.Wait
}
