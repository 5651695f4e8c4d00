package bench

import (
	"slices"
	"testing"
	"time"

	"wherry.dev/wherry/bench/result"
)

func TestParseTimings(t *testing.T) {
	got := parseTimings("started in 12.3 ms: admission 0.100 ms, image 2.20 ms, compile 10.0 ms, odd, worse x ms")
	want := []result.Step{{Name: "admission", Length: 100 * time.Microsecond}, {Name: "image", Begin: 100 * time.Microsecond, Length: 2200 * time.Microsecond},
		{Name: "compile", Begin: 2300 * time.Microsecond, Length: 10 * time.Millisecond}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := parseTimings("Container started"); got != nil {
		t.Errorf("another message gives %v", got)
	}
}

// TestWaterfall: the steps follow one another from the POST to the first byte,
// with the nodes' own and without.
func TestWaterfall(t *testing.T) {
	told := podMarks{created: 1, bound: 3, ready: 20, served: 22, inner: []result.Step{{Name: "image", Length: 4}, {Name: "compile", Length: 30}}}
	untold := told
	untold.inner = nil
	for _, test := range []struct {
		marks podMarks
		want  []result.Step
	}{
		{told, []result.Step{{Name: "API answers the POST", Length: 1}, {Name: "scheduler binds", Begin: 1, Length: 2}, {Name: "node: image", Begin: 3, Length: 4},
			{Name: "node: compile", Begin: 7, Length: 13}, {Name: "Ready is told", Begin: 20}, {Name: "first byte", Begin: 20, Length: 2}}},
		{untold, []result.Step{{Name: "API answers the POST", Length: 1}, {Name: "scheduler binds", Begin: 1, Length: 2},
			{Name: "node starts it, Ready", Begin: 3, Length: 17}, {Name: "first byte", Begin: 20, Length: 2}}},
	} {
		if got := waterfallOf([]podMarks{test.marks}); !slices.Equal(got, test.want) {
			t.Errorf("got  %v\nwant %v", got, test.want)
		}
	}
}
