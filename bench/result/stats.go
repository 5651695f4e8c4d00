package result

import (
	"math"
	"slices"
)

// student has the 97.5th percentile of Student's distribution by degrees of
// freedom, from 1 on.
var student = [...]float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
	2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
	2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042}

// normal is what student tends to.
const normal = 1.960

// Interval returns the mean of repetitions and half the width of its 95 %
// confidence interval by Student's distribution; half is NaN for fewer than
// two, about which nothing can be said.
func Interval(values []float64) (mean, half float64) {
	if len(values) == 0 {
		return math.NaN(), math.NaN()
	}
	for _, v := range values {
		mean += v
	}
	mean /= float64(len(values))
	freedom := len(values) - 1
	if freedom == 0 {
		return mean, math.NaN()
	}
	var squares float64
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	t := normal
	if freedom <= len(student) {
		t = student[freedom-1]
	}
	return mean, t * math.Sqrt(squares/float64(freedom)/float64(len(values)))
}

// Median returns the middle of values; NaN when there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// exactUpTo bounds the samples for which MannWhitney counts all orders.
const exactUpTo = 20

// MannWhitney returns the two-sided probability of a difference at least as
// large as that of a and b if both came from one distribution: the test that
// benchstat uses, because times have long tails. It is exact for few values
// without ties, and by the normal approximation otherwise.
func MannWhitney(a, b []float64) float64 {
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return math.NaN()
	}
	u, ties := rankSum(a, b)
	if ties == 0 && n <= exactUpTo && m <= exactUpTo {
		return exactP(n, m, int(math.Min(u, float64(n*m)-u)))
	}
	total := float64(n + m)
	variance := float64(n*m) / 12 * (total + 1 - ties/(total*(total-1)))
	if variance <= 0 {
		return 1 // all values are the same
	}
	// Half a step for continuity.
	z := (math.Abs(u-float64(n*m)/2) - 0.5) / math.Sqrt(variance)
	return math.Min(1, math.Erfc(math.Max(0, z)/math.Sqrt2))
}

// rankSum is the statistic U of a, and the sum of t³-t over groups of t ties.
func rankSum(a, b []float64) (u, ties float64) {
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				u++
			case x == y:
				u += 0.5
			}
		}
	}
	groups := map[float64]float64{}
	for _, v := range slices.Concat(a, b) {
		groups[v]++
	}
	for _, t := range groups {
		ties += t*t*t - t
	}
	return u, ties
}

// exactP counts the orders of n and m values whose U is at most u, by the
// recursion on which sample has the largest value, and doubles their share.
func exactP(n, m, u int) float64 {
	// ways[j][k]: orders of i values of one and j of the other with U = k.
	ways := make([][]float64, m+1)
	for j := range ways {
		ways[j] = make([]float64, n*m+1)
		ways[j][0] = 1
	}
	for i := 1; i <= n; i++ {
		for j := 1; j <= m; j++ {
			next := make([]float64, n*m+1)
			for k := range next {
				next[k] = ways[j-1][k]
				if k >= j {
					next[k] += ways[j][k-j]
				}
			}
			ways[j] = next
		}
	}
	var below, all float64
	for k, w := range ways[m] {
		all += w
		if k <= u {
			below += w
		}
	}
	return math.Min(1, 2*below/all)
}
