// Package result holds what benchmarks have measured, and renders it: in the
// format of Go benchmarks, as a table, as JSON and as a page with plots. It
// compares two such reports.
package result

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// schema is the version of the JSON form.
const schema = 1

// Report is everything that one call of "wherry bench" has found out.
type Report struct {
	Schema  int       `json:"schema"`
	Began   time.Time `json:"began"`
	Setup   []Pair    `json:"setup"`
	Nodes   []Node    `json:"nodes,omitempty"`
	Results []Result  `json:"results"`
	Skipped []Skip    `json:"skipped,omitempty"`
}

// New returns an empty report.
func New(began time.Time) *Report { return &Report{Schema: schema, Began: began} }

// Pair is one line of the set-up, in the order of its printing. Keys are in
// lower case without spaces, as benchstat wants them.
type Pair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Node is a machine that pods ran on.
type Node struct {
	Name         string `json:"name"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Engine       string `json:"engine"` // what runs containers, with its version
	Kernel       string `json:"kernel,omitempty"`
	CPU          string `json:"cpu,omitempty"`
	Memory       string `json:"memory,omitempty"`
}

// Skip says what was not measured, and why.
type Skip struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Result is one thing that was measured, in several repetitions.
type Result struct {
	Scenario string `json:"scenario"` // "requests"
	// Name tells the results of a scenario apart: "via=cluster-ip/connections=64".
	Name string `json:"name"`
	// Loop says how load was given: "closed" (the next operation follows the
	// answer to the last), "open" (operations at a fixed rate, timed from when
	// they were due), or "" where operations were measured one by one.
	Loop string `json:"loop,omitempty"`
	Runs []Run  `json:"runs"` // the repetitions; warm-ups are not among them
	// Latency has all repetitions' operations; nil where that has no meaning.
	Latency *Histogram `json:"latency,omitempty"`
	Steps   []Step     `json:"steps,omitempty"` // medians, in order
	Curve   []Point    `json:"curve,omitempty"` // in order of X
}

// Run is one repetition.
type Run struct {
	Count   int64    `json:"count"` // operations
	Metrics []Metric `json:"metrics"`
}

// Metric is one figure of a repetition, with a unit as Go benchmarks have it.
type Metric struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Step is one leg of a way, for the waterfall.
type Step struct {
	Name   string        `json:"name"`
	Begin  time.Duration `json:"begin"` // since the way's begin, in ns
	Length time.Duration `json:"length"`
}

// Point is one place of a curve.
type Point struct {
	X       float64  `json:"x"`
	Metrics []Metric `json:"metrics"`
}

// Key is the name of a result among all of a report: the scenario and the
// name below it.
func (r Result) Key() string {
	if r.Name == "" {
		return r.Scenario
	}
	return r.Scenario + "/" + r.Name
}

// goName is the name as a Go benchmark has it, with the number of processors.
func (r Result) goName() string {
	name := "Benchmark" + strings.ToUpper(r.Scenario[:1]) + r.Scenario[1:]
	if r.Name != "" {
		name += "/" + strings.ReplaceAll(r.Name, " ", "_")
	}
	return fmt.Sprintf("%s-%d", name, runtime.GOMAXPROCS(0))
}

// Units lists the units of a result in the order of their first mention.
func (r Result) Units() []string {
	var units []string
	for _, run := range r.Runs {
		for _, m := range run.Metrics {
			if !slices.Contains(units, m.Unit) {
				units = append(units, m.Unit)
			}
		}
	}
	return units
}

// Values are a unit's figures, one for each repetition that has it.
func (r Result) Values(unit string) []float64 {
	var values []float64
	for _, run := range r.Runs {
		for _, m := range run.Metrics {
			if m.Unit == unit {
				values = append(values, m.Value)
			}
		}
	}
	return values
}

// Latencies are the usual figures of a distribution: the mean as ns/op and
// percentiles in microseconds.
func Latencies(h *Histogram) []Metric {
	metrics := []Metric{{h.Mean(), "ns/op"}}
	for _, p := range []struct {
		p    float64
		name string
	}{{50, "p50-us"}, {90, "p90-us"}, {99, "p99-us"}, {99.9, "p99.9-us"}} {
		// A percentile that lies beyond the samples would only repeat the largest.
		if float64(h.Count())*(100-p.p)/100 < 1 && p.p > 90 {
			continue
		}
		metrics = append(metrics, Metric{float64(h.Percentile(p.p)) / float64(time.Microsecond), p.name})
	}
	return metrics
}
