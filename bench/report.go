package bench

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Percentile returns the p-th percentile (0 to 100) of durations, by nearest
// rank; 0 when there are none.
func Percentile(durations []time.Duration, p float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(durations), cmp.Compare[time.Duration])
	rank := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Metric is one figure for Go benchmark output (testing.B.ReportMetric).
type Metric struct {
	Value float64
	Unit  string
}

// Report turns samples into figures: percentiles of the whole in
// milliseconds and the median of each leg in microseconds.
func Report(samples []Sample) []Metric {
	totals := make([]time.Duration, 0, len(samples))
	for _, s := range samples {
		totals = append(totals, s.Total)
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	metrics := []Metric{{ms(Percentile(totals, 50)), "p50-ms"}, {ms(Percentile(totals, 99)), "p99-ms"}}
	for step := range stepCount {
		leg := make([]time.Duration, 0, len(samples))
		for _, s := range samples {
			leg = append(leg, s.Steps[step])
		}
		metrics = append(metrics, Metric{float64(Percentile(leg, 50)) / float64(time.Microsecond), step.String() + "-us"})
	}
	return metrics
}
