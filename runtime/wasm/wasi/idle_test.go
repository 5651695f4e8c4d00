package wasi

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdle: who has to do something while the guest waits is called when it
// wanted to be, and the wait is as long as it would have been.
func TestIdle(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		limit time.Duration
		rings time.Duration // when the bell rings; 0: never
		again []time.Duration
		takes time.Duration // each call
		want  []time.Duration
		over  time.Duration
	}{
		{"nothing to do", 50 * ms, 0, []time.Duration{forever}, 0, []time.Duration{0}, 50 * ms},
		{"once", 50 * ms, 0, []time.Duration{20 * ms, forever}, 0, []time.Duration{0, 20 * ms}, 50 * ms},
		{"in steps", 50 * ms, 0, []time.Duration{20 * ms, 10 * ms, 5 * ms, 40 * ms}, 0, []time.Duration{0, 20 * ms, 30 * ms, 35 * ms}, 50 * ms},
		{"not before the end", 50 * ms, 0, []time.Duration{60 * ms}, 0, []time.Duration{0}, 50 * ms},
		{"what takes time is part of the wait", 50 * ms, 0, []time.Duration{20 * ms, 10 * ms, forever}, 8 * ms, []time.Duration{0, 28 * ms, 46 * ms}, 54 * ms},
		{"without an end", forever, 70 * ms, []time.Duration{20 * ms, 30 * ms, 100 * ms}, 0, []time.Duration{0, 20 * ms, 50 * ms}, 70 * ms},
		{"news at once", forever, 10 * ms, []time.Duration{20 * ms}, 0, []time.Duration{0}, 10 * ms},
	} {
		synctest.Test(t, func(t *testing.T) {
			g, err := NewGuest(t.Context(), Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			var at []time.Duration
			g.OnIdle(func(waited time.Duration) time.Duration {
				at = append(at, waited)
				<-time.After(c.takes)
				return c.again[len(at)-1]
			})
			if c.rings > 0 {
				time.AfterFunc(c.rings, g.ring)
			}
			began := time.Now()
			g.park(c.limit)
			if took := time.Since(began); took != c.over {
				t.Errorf("%s: it waited %v, not %v", c.name, took, c.over)
			}
			if !slices.Equal(at, c.want) {
				t.Errorf("%s: it was called after %v, not %v", c.name, at, c.want)
			}
		})
	}
}
