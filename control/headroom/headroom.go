// Package headroom adjusts by how much the heap of this process may grow before
// it is collected.
package headroom

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// least is how many bytes a small heap may grow, whatever lives in it. A
	// burst of requests makes garbage as fast with a small heap as with a large
	// one, and at Go's 100 % a heap of 12 MiB is collected thirty times a second.
	least = 48 << 20
	// full is how many bytes may live in the heap before its headroom begins
	// to fall.
	full = 128 << 20
	// every is how often it is adjusted.
	every = time.Second
	// step is how exact it is, in percent: a change stops the process for some
	// microseconds.
	step = 5
	// most bounds it, in percent, while next to nothing lives.
	most = 800
)

// percent is by how many percent of what lives the heap may grow before it is
// collected. A collection costs what lives and comes when the room is used up:
// at Go's 100 % a gigabyte of objects takes two. With room in proportion to the
// square root, memory and processor time pay alike for a larger heap
// (Kirisame et al., Optimal Heap Limits for Reducing Browser Memory Use, 2022).
func percent(live uint64) int {
	switch {
	case live <= least/(most/100):
		return most
	case live <= least:
		return int(100*least/live) / step * step
	case live <= full:
		return 100
	default:
		return int(100*math.Sqrt(full/float64(live))) / step * step
	}
}

// Keep adjusts the collector until ctx ends, unless GOGC says what the user
// wants of it.
func Keep(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for last := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(live)
		if now := percent(live[0].Value.Uint64()); now != last {
			debug.SetGCPercent(now)
			last = now
		}
	}
}
