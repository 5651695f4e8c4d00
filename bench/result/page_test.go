package result

import (
	"bytes"
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// pageReport has a result of every form that the page draws.
func pageReport() *Report {
	h := new(Histogram)
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Microsecond)
	}
	runs := []Run{{Count: 1000, Metrics: append(Latencies(h), Metric{100, "ops/s"})}, {Count: 1000, Metrics: append(Latencies(h), Metric{110, "ops/s"})}}
	r := New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r.Setup = []Pair{{"cpu", `<script>alert("x")</script>`}}
	r.Nodes = []Node{{Name: "node-1", OS: "linux", Architecture: "riscv64", Engine: "wazero://1"}}
	r.Skipped = []Skip{{"requests via=memory", "elsewhere"}}
	r.Results = []Result{
		{Scenario: "coldstart", Name: "part=pod", Runs: runs, Latency: h, Steps: []Step{{"API & co", 0, time.Millisecond}, {"node", time.Millisecond, 3 * time.Millisecond}}},
		{Scenario: "requests", Name: "via=pod-ip/connections=1/loop=closed", Loop: "closed", Runs: runs, Latency: h},
		{Scenario: "requests", Name: "via=pod-ip/connections=64/loop=closed", Loop: "closed", Runs: runs, Latency: h},
		{Scenario: "requests", Name: "via=pod-ip/connections=64/loop=open", Loop: "open", Runs: runs, Latency: h},
		{Scenario: "density", Name: "guest=c", Runs: []Run{{Count: 8, Metrics: []Metric{{8, "up-pods/s"}}}},
			Curve: []Point{{4, []Metric{{1, "s"}, {100, "KiB/pod"}}}, {8, []Metric{{2, "s"}, {90, "KiB/pod"}}}}},
	}
	return r
}

func TestPage(t *testing.T) {
	var out bytes.Buffer
	if err := WritePage(&out, pageReport()); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for what, want := range map[string]int{
		`class="waterfall"`: 1, "<svg": 5, `class="line c0"`: 5, "<h2>Where the time goes": 1, "riscv64": 1, "elsewhere": 1, "prefers-color-scheme: dark": 1,
	} {
		if got := strings.Count(page, what); got != want {
			t.Errorf("the page has %d times %s, want %d", got, what, want)
		}
	}
	if regexp.MustCompile(`<script|https?://|url\(|@import|src=`).MatchString(page) {
		t.Error("the page runs a script or asks for something elsewhere")
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1) {
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := decoder.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("a drawing is no XML: %v\n%s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("a drawing has places that are no numbers:\n%s", svg)
		}
	}
}

// TestPageOfNothing: a report whose first scenario failed has a page too.
func TestPageOfNothing(t *testing.T) {
	r := New(time.Unix(0, 0))
	r.Results = []Result{{Scenario: "store", Name: "writers=1", Latency: new(Histogram)}, {Scenario: "density", Curve: []Point{{0, []Metric{{0, "s"}}}}},
		{Scenario: "apply", Steps: []Step{{"api", 0, 0}}}}
	var out bytes.Buffer
	if err := WritePage(&out, r); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "NaN") {
		t.Error("places that are no numbers")
	}
}
