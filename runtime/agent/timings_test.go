package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimingsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timings := newTimings(time.Now())
		for _, step := range []struct {
			name string
			took time.Duration
		}{
			{stepVolumes, 1500 * time.Microsecond}, {stepImage, 12340 * time.Millisecond}, {stepStart, 250 * time.Microsecond},
			{stepImage, 10 * time.Millisecond}, {stepReady, 0},
		} {
			time.Sleep(step.took)
			timings.lap(step.name)
		}
		time.Sleep(3 * time.Millisecond)
		timings.lapIn(stepImage, stepCompile, 2*time.Millisecond)
		timings.lapIn(stepImage, stepCompile, time.Hour) // it began before the last lap did
		want := "started in 12355 ms: volumes 1.50 ms, image 12351 ms, start 0.250 ms, ready 0.000 ms, compile 2.00 ms"
		if got := timings.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		timings.told = true
		time.Sleep(time.Second)
		timings.lap(stepReady)
		if got := timings.String(); got != want {
			t.Errorf("after it was told: %s", got)
		}
	})
}
