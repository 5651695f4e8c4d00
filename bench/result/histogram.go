package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// subBuckets is how many buckets of equal width each power of two has: a value
// is kept to 1/128 of its size.
const subBuckets = 128

// Histogram counts durations in buckets whose width grows with their values,
// so that a day and a nanosecond fit and none is off by more than 0.8 %. The
// zero value is empty. It is used by one goroutine; Merge joins those of many.
type Histogram struct {
	counts   []int64 // by bucket
	count    int64
	sum      float64 // ns
	min, max int64   // ns
}

// bucketOf is the index of a value's bucket.
func bucketOf(ns int64) int {
	if ns < subBuckets {
		return int(ns)
	}
	shift := bits.Len64(uint64(ns)) - bits.Len64(subBuckets)
	return shift*subBuckets + int(ns>>shift)
}

// lowerOf is the smallest value of a bucket.
func lowerOf(bucket int) int64 {
	if bucket < 2*subBuckets {
		return int64(bucket)
	}
	shift := bucket/subBuckets - 1
	return int64(bucket-shift*subBuckets) << shift
}

// Add counts a duration. A negative one counts as 0: clocks have steps.
func (h *Histogram) Add(d time.Duration) { h.add(max(0, int64(d)), 1) }

func (h *Histogram) add(ns, n int64) {
	bucket := bucketOf(ns)
	if bucket >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, bucket+1-len(h.counts))...)
	}
	h.counts[bucket] += n
	if h.count == 0 || ns < h.min {
		h.min = ns
	}
	h.max = max(h.max, ns)
	h.count += n
	h.sum += float64(ns) * float64(n)
}

// Merge adds what another histogram has.
func (h *Histogram) Merge(other *Histogram) {
	if other == nil || other.count == 0 {
		return
	}
	if len(other.counts) > len(h.counts) {
		h.counts = append(h.counts, make([]int64, len(other.counts)-len(h.counts))...)
	}
	for bucket, n := range other.counts {
		h.counts[bucket] += n
	}
	if h.count == 0 || other.min < h.min {
		h.min = other.min
	}
	h.max = max(h.max, other.max)
	h.count += other.count
	h.sum += other.sum
}

// Count is how many durations there are.
func (h *Histogram) Count() int64 { return h.count }

// Mean is in nanoseconds; 0 when there is nothing.
func (h *Histogram) Mean() float64 {
	if h.count == 0 {
		return 0
	}
	return h.sum / float64(h.count)
}

// Max is the largest duration, exactly.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max) }

// Percentile is the p-th percentile (0 to 100) by nearest rank, to the middle
// of its bucket; 0 when there is nothing.
func (h *Histogram) Percentile(p float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := min(max(int64(math.Ceil(p/100*float64(h.count))), 1), h.count)
	var seen int64
	for bucket, n := range h.counts {
		if seen += n; seen >= rank {
			middle := (lowerOf(bucket) + lowerOf(bucket+1)) / 2
			return time.Duration(min(max(middle, h.min), h.max))
		}
	}
	return time.Duration(h.max)
}

// histogramJSON has only the buckets that are not empty, as pairs of their
// smallest value in ns and their count.
type histogramJSON struct {
	Count   int64      `json:"count"`
	Sum     float64    `json:"sum"`
	Min     int64      `json:"min"`
	Max     int64      `json:"max"`
	Buckets [][2]int64 `json:"buckets"`
}

// MarshalJSON implements json.Marshaler.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	out := histogramJSON{Count: h.count, Sum: h.sum, Min: h.min, Max: h.max, Buckets: [][2]int64{}}
	for bucket, n := range h.counts {
		if n > 0 {
			out.Buckets = append(out.Buckets, [2]int64{lowerOf(bucket), n})
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var in histogramJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*h = Histogram{}
	for _, pair := range in.Buckets {
		if pair[0] < 0 || pair[1] <= 0 {
			return fmt.Errorf("latency.buckets: [%d, %d] is no bucket", pair[0], pair[1])
		}
		h.add(pair[0], pair[1])
	}
	if h.count != in.Count {
		return errors.New("latency.count is not the sum of latency.buckets")
	}
	h.sum, h.min, h.max = in.Sum, in.Min, in.Max
	return nil
}
