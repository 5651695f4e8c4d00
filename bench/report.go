package bench

import (
	"cmp"
	"math"
	"slices"
	"time"

	"wherry.dev/wherry/bench/result"
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

// Report turns samples into figures: percentiles of the whole in
// milliseconds and the median of each leg in microseconds.
func Report(samples []Sample) []result.Metric {
	totals := pick(samples, func(s Sample) time.Duration { return s.Total })
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return append([]result.Metric{{Value: ms(Percentile(totals, 50)), Unit: "p50-ms"}, {Value: ms(Percentile(totals, 99)), Unit: "p99-ms"}}, legs(samples)...)
}

// legs are the medians of the legs in microseconds.
func legs(samples []Sample) []result.Metric {
	var metrics []result.Metric
	for step := range stepCount {
		leg := pick(samples, func(s Sample) time.Duration { return s.Steps[step] })
		metrics = append(metrics, result.Metric{Value: float64(Percentile(leg, 50)) / float64(time.Microsecond), Unit: step.String() + "-us"})
	}
	return metrics
}
