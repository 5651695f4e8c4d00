package result

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramKeepsValuesClosely(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var whole, left, right Histogram
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(math.Exp(random.NormFloat64()*3 + 12)) // nanoseconds to minutes
		all = append(all, d)
		whole.Add(d)
		if i%2 == 0 {
			left.Add(d)
		} else {
			right.Add(d)
		}
	}
	left.Merge(&right)
	slices.Sort(all)
	for _, p := range []float64{0.1, 10, 50, 90, 99, 99.9, 100} {
		want := all[max(int(math.Ceil(p/100*float64(len(all))))-1, 0)]
		for _, h := range []*Histogram{&whole, &left} {
			if got := h.Percentile(p); math.Abs(float64(got-want)) > float64(want)/subBuckets {
				t.Errorf("p%v is %v, want %v", p, got, want)
			}
		}
	}
	text, err := json.Marshal(&whole)
	if err != nil {
		t.Fatal(err)
	}
	var back Histogram
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Percentile(99) != whole.Percentile(99) || back.Mean() != whole.Mean() || back.Max() != whole.Max() || back.Count() != whole.Count() {
		t.Errorf("JSON and back: %v %v, want %v %v", back.Percentile(99), back.Mean(), whole.Percentile(99), whole.Mean())
	}
	for _, wrong := range []string{`{"count":2,"buckets":[[1,1]]}`, `{"count":1,"buckets":[[-1,1]]}`, `{"count":0,"buckets":[[1,0]]}`, `[]`} {
		if err := json.Unmarshal([]byte(wrong), &back); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

func TestHistogramOfFewValues(t *testing.T) {
	var h Histogram
	if h.Percentile(50) != 0 || h.Mean() != 0 {
		t.Error("an empty histogram has values")
	}
	h.Add(-time.Second)
	h.Add(300 * time.Microsecond)
	if h.Percentile(0) != 0 || h.Percentile(100) != 300*time.Microsecond || h.Max() != 300*time.Microsecond {
		t.Errorf("p0 %v, p100 %v", h.Percentile(0), h.Percentile(100))
	}
	for bucket := range 5000 {
		if got := bucketOf(lowerOf(bucket)); got != bucket {
			t.Fatalf("bucket %d begins at %d, which is in bucket %d", bucket, lowerOf(bucket), got)
		}
	}
}

func TestInterval(t *testing.T) {
	for _, tt := range []struct {
		values     []float64
		mean, half float64
	}{
		{nil, math.NaN(), math.NaN()},
		{[]float64{3}, 3, math.NaN()},
		{[]float64{1, 1, 1}, 1, 0},
		{[]float64{1, 2, 3, 4, 5}, 3, 2.776 * math.Sqrt(2.5/5)},
	} {
		mean, half := Interval(tt.values)
		if !same(mean, tt.mean) || !same(half, tt.half) {
			t.Errorf("Interval(%v) = %v, %v, want %v, %v", tt.values, mean, half, tt.mean, tt.half)
		}
	}
}

// TestMannWhitney: the orders counted by hand, the ties by the formula.
func TestMannWhitney(t *testing.T) {
	for _, tt := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 0.007936508},
		{[]float64{1, 2, 3}, []float64{4, 5, 6}, 0.1},
		{[]float64{1, 3, 5, 7}, []float64{2, 4, 6, 8}, 0.6857143},
		{[]float64{1, 1, 1}, []float64{1, 1, 1}, 1},
		{[]float64{1, 2, 2, 3}, []float64{2, 3, 4, 5}, 0.1366582},
		{nil, []float64{1}, math.NaN()},
	} {
		if got := MannWhitney(tt.a, tt.b); !(math.Abs(got-tt.want) < 1e-6) && !same(got, tt.want) {
			t.Errorf("MannWhitney(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func same(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-9 }
