package bench

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	for _, tt := range []struct {
		in   []time.Duration
		p    float64
		want time.Duration
	}{
		{nil, 50, 0}, {hundred[:1], 99, 100}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred, 0, 1},
	} {
		if got := Percentile(tt.in, tt.p); got != tt.want {
			t.Errorf("Percentile(%d values, %v) = %d, want %d", len(tt.in), tt.p, got, tt.want)
		}
	}
}

func TestLegsNeverExceedTheWhole(t *testing.T) {
	begin := time.Unix(100, 0)
	var marks [stepCount]time.Time
	for step := range stepCount {
		marks[step] = begin.Add(time.Duration(step+1) * time.Millisecond)
	}
	marks[StepEndpoints] = begin // seen by the other watch before the pod's own event
	sample := newSample(begin, marks)
	var sum time.Duration
	for _, leg := range sample.Steps {
		sum += leg
	}
	if sum != sample.Total || sample.Steps[StepEndpoints] != 0 {
		t.Errorf("legs %v sum to %v, the whole is %v", sample.Steps, sum, sample.Total)
	}
}
