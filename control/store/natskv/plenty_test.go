package natskv

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPlenty: how much is free is asked for again after a while, and each time
// when it is not much.
func TestPlenty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free, asked := uint64(64<<30), 0
		b := &Bucket{cfg: Config{Dir: "here"}, freeSpace: func() (uint64, error) { asked++; return free, nil }}
		for _, step := range []struct {
			after   time.Duration
			free    uint64
			need    uint64
			refused bool
			asked   int
		}{
			{free: 64 << 30, need: 1 << 20, asked: 1},
			{free: 64 << 30, need: 1 << 20, asked: 1},
			{free: 64 << 30, need: 64<<30 - 1, asked: 2},
			{free: 1 << 20, need: 1 << 20, asked: 2}, // not yet seen
			{after: lookAgain, free: 1 << 20, need: 2 << 20, asked: 3, refused: true},
			{free: 1 << 20, need: 1 << 20, asked: 4},
			{free: 64 << 30, need: 2 << 20, asked: 5},
		} {
			time.Sleep(step.after)
			free = step.free
			if err := b.space(step.need); (err != nil) != step.refused || asked != step.asked {
				t.Errorf("%+v: asked %d times, %v", step, asked, err)
			}
		}
	})
}
