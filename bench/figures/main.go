// Command figures writes docs/benchmarks.md: the text beside it, with the
// figures of results in the format of Go benchmarks in their places.
//
//	go run ./bench/figures bin/bench*.txt >docs/benchmarks.md
//
// A figure that no result has is written as "-" and named on standard error,
// and the exit code is 1.
package main

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"wherry.dev/wherry/bench/result"
)

//go:embed benchmarks.md.tmpl
var text string

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(files []string, out io.Writer) error {
	if len(files) == 0 {
		return fmt.Errorf("name files with results; \"task bench\" leaves them in bin/")
	}
	f := figures{results: map[string]result.Result{}, setup: map[string]string{}}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		report, err := result.Read(file)
		_ = file.Close() // it was only read
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.add(report)
	}
	if err := f.write(out, text); err != nil {
		return err
	}
	if len(f.missing) > 0 {
		return fmt.Errorf("no result has\n  %s", strings.Join(f.missing, "\n  "))
	}
	return nil
}

// figures are the results that a text may name.
type figures struct {
	results map[string]result.Result // by key
	setup   map[string]string
	missing []string
}

// add takes a report's results; the set-up that was told first counts.
func (f *figures) add(report *result.Report) {
	for _, r := range report.Results {
		f.results[r.Key()] = r
	}
	for _, pair := range report.Setup {
		if _, known := f.setup[pair.Key]; !known {
			f.setup[pair.Key] = pair.Value
		}
	}
}

func (f *figures) write(out io.Writer, text string) error {
	t, err := template.New("benchmarks.md").Funcs(template.FuncMap{
		"v": f.value, "n": f.number, "geomean": f.geomean, "setup": f.line,
	}).Parse(text)
	if err != nil {
		return err
	}
	return t.Execute(out, nil)
}

// median is that of a unit over the repetitions of a result.
func (f *figures) median(key, unit string) (float64, bool) {
	values := f.results[key].Values(unit)
	if len(values) == 0 {
		f.miss(key + " " + unit)
		return 0, false
	}
	return result.Median(values), true
}

func (f *figures) miss(what string) {
	if !slices.Contains(f.missing, what) {
		f.missing = append(f.missing, what)
	}
}

// value writes a time with its unit, anything else as number does.
func (f *figures) value(key, unit string) string {
	m, ok := f.median(key, unit)
	if !ok {
		return "-"
	}
	scale := map[string]float64{"ns/op": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
	for name, each := range scale {
		if unit == name || strings.HasSuffix(unit, "-"+name) || strings.Contains(unit, "-"+name+"/") || strings.Contains(unit, "-"+name+"-") || strings.HasPrefix(unit, name+"-") {
			return duration(m * each)
		}
	}
	return number(m)
}

// number writes the figure without its unit.
func (f *figures) number(key, unit string) string {
	m, ok := f.median(key, unit)
	if !ok {
		return "-"
	}
	return number(m)
}

// geomean is the geometric mean of a unit over all results below a name.
func (f *figures) geomean(below, unit string) string {
	sum, count := 0.0, 0
	for key, r := range f.results {
		if values := r.Values(unit); strings.HasPrefix(key, below+"/") && len(values) > 0 {
			sum += math.Log(result.Median(values))
			count++
		}
	}
	if count == 0 {
		f.miss(below + "/... " + unit)
		return "-"
	}
	return strconv.FormatFloat(math.Exp(sum/float64(count)), 'f', 2, 64)
}

// line is one of the set-up.
func (f *figures) line(key string) string {
	value, ok := f.setup[key]
	if !ok {
		f.miss("set-up " + key)
		return "-"
	}
	return value
}

// number renders three digits that count, with commas between thousands.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	scale := math.Pow(10, float64(digits))
	rounded := strconv.FormatFloat(math.Round(v*scale)/scale, 'f', max(0, digits), 64)
	if strings.Contains(rounded, ".") {
		rounded = strings.TrimRight(strings.TrimRight(rounded, "0"), ".")
	}
	for i := len(rounded) - 3; i > 0 && !strings.Contains(rounded, "."); i -= 3 {
		if rounded[i-1] == '-' {
			break
		}
		rounded = rounded[:i] + "," + rounded[i:]
	}
	return rounded
}

// duration renders nanoseconds.
func duration(ns float64) string {
	switch {
	case ns < float64(time.Microsecond):
		return number(ns) + " ns"
	case ns < float64(time.Millisecond):
		return number(ns/1e3) + " us"
	case ns < float64(time.Second):
		return number(ns/1e6) + " ms"
	}
	return number(ns/1e9) + " s"
}
