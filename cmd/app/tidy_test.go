package app

import (
	"slices"
	"testing"
	"time"
)

func TestTidyOnceAfterEachBurst(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name string
		used []time.Duration // in each interval of ten seconds
		want []int           // the intervals after which it tidied up
	}{
		{"a start, then nothing", []time.Duration{2 * second, 0, 0, 0, 0}, []int{2}},
		{"nothing from the beginning", []time.Duration{0, 0, 0, 0}, []int{1}},
		{"always at work", []time.Duration{9 * second, 9 * second, 9 * second, 9 * second}, nil},
		{"a quiet interval between bursts", []time.Duration{9 * second, 0, 9 * second, 0, 9 * second}, nil},
		{"a second burst", []time.Duration{second, 0, 0, 9 * second, 0, 0, 0}, []int{2, 5}},
		{"a little work is no burst", []time.Duration{0, 0, second / 2, 0, 0, 0}, []int{1}},
		{"a little work is not quiet", []time.Duration{second / 2, 0, second / 2, 0, second / 2}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var total time.Duration
			var at []int
			interval := 0
			tidy := &tidier{used: func() time.Duration { return total }}
			tidy.tidy = func() {
				at = append(at, interval)
				total += 5 * second // which must not look like a burst
			}
			for i, used := range c.used {
				interval, total = i, total+used
				tidy.look(10 * second)
			}
			if !slices.Equal(at, c.want) {
				t.Errorf("tidied after the intervals %v, want %v", at, c.want)
			}
		})
	}
}
