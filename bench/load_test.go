package bench

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestOpenLoopOmitsNothing: a system that stands still for a second makes all
// wait that would have come meanwhile, and the open loop says so; the closed
// loop sees one slow operation.
func TestOpenLoopOmitsNothing(t *testing.T) {
	stall := func() operation {
		begin := time.Now()
		return func(ctx context.Context, _ int) error {
			if at := time.Since(begin); at >= time.Second && at < 2*time.Second {
				sleep(ctx, 2*time.Second-at)
			}
			sleep(ctx, time.Millisecond)
			return nil
		}
	}
	synctest.Test(t, func(t *testing.T) {
		closed, err := closedLoop(t.Context(), 1, 4*time.Second, stall())
		if err != nil {
			t.Fatal(err)
		}
		if p99 := closed.latency.Percentile(99); p99 > 2*time.Millisecond || closed.latency.Max() < time.Second {
			t.Errorf("closed: p99 %v, most %v", p99, closed.latency.Max())
		}
		open, err := openLoop(t.Context(), 1, 100, 4*time.Second, stall())
		if err != nil {
			t.Fatal(err)
		}
		// A quarter of 400 operations were due in that second; half of those
		// waited longer than half of it.
		if n := open.latency.Count(); n != 400 {
			t.Errorf("open: %d operations, want 400", n)
		}
		if p90 := open.latency.Percentile(90); p90 < 500*time.Millisecond || p90 > 700*time.Millisecond {
			t.Errorf("open: p90 %v, want about 0.6 s", p90)
		}
		if p50 := open.latency.Percentile(50); p50 > 2*time.Millisecond {
			t.Errorf("open: p50 %v", p50)
		}
	})
}

// TestOpenLoopGivesUp: who cannot keep up is told how much was never begun.
func TestOpenLoopGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, err := openLoop(t.Context(), 2, 1000, time.Second, func(ctx context.Context, _ int) error {
			sleep(ctx, 10*time.Millisecond)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if done := run.latency.Count(); done+run.unserved != 1000 || done < 550 || done > 650 {
			t.Errorf("%d done, %d unserved; want about 600 of 1000 done within 3 s", done, run.unserved)
		}
	})
}

func TestLoadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		count := 0
		run, err := closedLoop(t.Context(), 1, time.Second, func(ctx context.Context, _ int) error {
			sleep(ctx, time.Millisecond)
			if count++; count%10 == 0 {
				return broken
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := run.check(); !errors.Is(err, broken) {
			t.Errorf("check says %v", err)
		}
		run, err = closedLoop(t.Context(), 1, time.Second, func(ctx context.Context, _ int) error { sleep(ctx, time.Hour); return nil })
		if err != nil || run.check() != nil {
			t.Errorf("one slow operation: %v, %v", err, run.check())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		run, err = openLoop(ctx, 1, 10, time.Second, func(context.Context, int) error { return nil })
		if !errors.Is(err, context.Canceled) || run.check() == nil {
			t.Errorf("after the end of its context: %v, %v", err, run.check())
		}
	})
}

func TestStrangerIsTheSameProgram(t *testing.T) {
	module := []byte("\x00asm\x01\x00\x00\x00")
	a, b := stranger(module), stranger(module)
	if string(a) == string(b) || string(a[:8]) != string(module) || int(a[9]) != len(a)-10 {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestNamed(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  int
	}{{nil, 9}, {[]string{"store", "apply"}, 2}} {
		got, err := Named(tt.names)
		if err != nil || len(got) != tt.want {
			t.Errorf("Named(%v): %d, %v", tt.names, len(got), err)
		}
	}
	if got, _ := Named([]string{"store", "apply"}); got[0].Name != "apply" {
		t.Errorf("the first is %s", got[0].Name)
	}
}

func TestStepsTo(t *testing.T) {
	for pods, want := range map[int]int{1: 1, 3: 3, 8: 8, 1000: 8} {
		steps := stepsTo(pods)
		if len(steps) != want || steps[len(steps)-1] != pods {
			t.Errorf("stepsTo(%d) = %v", pods, steps)
		}
	}
}
