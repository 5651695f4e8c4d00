package result

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// WriteSetup writes the set-up as lines "key: value", as Go benchmarks do.
func WriteSetup(w io.Writer, r *Report) error {
	var b strings.Builder
	for _, pair := range r.Setup {
		fmt.Fprintf(&b, "%s: %s\n", pair.Key, oneLine(pair.Value))
	}
	for i, node := range r.Nodes {
		fmt.Fprintf(&b, "node-%d: %s %s/%s %s\n", i+1, node.Name, node.OS, node.Architecture, node.Engine)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// WriteGo writes a result in the format of Go benchmarks, a line for each
// repetition, so that benchstat sees as many samples as there are.
func WriteGo(w io.Writer, r Result) error {
	var b strings.Builder
	for _, run := range r.Runs {
		fmt.Fprintf(&b, "%s\t%8d", r.goName(), run.Count)
		for _, m := range run.Metrics {
			fmt.Fprintf(&b, "\t%s %s", number(m.Value), m.Unit)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// number renders a value with as many digits as tell something.
func number(v float64) string {
	switch abs := max(v, -v); {
	case abs == 0:
		return "0"
	case abs >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// maxInput bounds a file that is read: ten times a report of everything.
const maxInput = 64 << 20

// Read reads a report in JSON, or the output of Go benchmarks, of whatever
// program it is. Its errors say what the text lacks.
func Read(r io.Reader) (*Report, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("more than %d MiB: no report is as large", maxInput>>20)
	}
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
		return readJSON(trimmed)
	}
	return readGo(text)
}

func readJSON(text []byte) (*Report, error) {
	var report Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("not a report of wherry bench: %w", err)
	}
	if report.Schema != schema {
		return nil, fmt.Errorf("schema is %d: this wherry reads %d", report.Schema, schema)
	}
	for i, result := range report.Results {
		if result.Scenario == "" {
			return nil, fmt.Errorf("results[%d].scenario is empty", i)
		}
	}
	if len(report.Results) == 0 {
		return nil, errors.New("there are no results in it")
	}
	return &report, nil
}

// processors is the end of a benchmark's name that says GOMAXPROCS.
var processors = regexp.MustCompile(`-\d+$`)

// readGo reads lines "BenchmarkName-8  N  value unit ..." and "key: value"
// (https://go.dev/design/14313-benchmark-format); other lines are skipped.
func readGo(text []byte) (*Report, error) {
	report := &Report{Schema: schema}
	at := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if key, value, ok := strings.Cut(line, ": "); ok && isKey(key) {
			report.Setup = append(report.Setup, Pair{key, strings.TrimSpace(value)})
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 || len(fields)%2 != 0 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		run, ok := parseRun(fields[1:])
		if !ok {
			continue
		}
		name := processors.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
		i, known := at[name]
		if !known {
			i = len(report.Results)
			at[name] = i
			scenario, rest, _ := strings.Cut(name, "/")
			if scenario == "" {
				continue
			}
			report.Results = append(report.Results, Result{Scenario: strings.ToLower(scenario[:1]) + scenario[1:], Name: rest})
		}
		report.Results[i].Runs = append(report.Results[i].Runs, run)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(report.Results) == 0 {
		return nil, errors.New("no line of it is a benchmark's result (\"BenchmarkName  count  value unit\"), and it is no JSON")
	}
	return report, nil
}

// isKey says whether a word is a key of the set-up: lower case, no space.
func isKey(key string) bool {
	return key != "" && unicode.IsLower(rune(key[0])) && !strings.ContainsFunc(key, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsUpper(r) })
}

func parseRun(fields []string) (Run, bool) {
	count, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return Run{}, false
	}
	run := Run{Count: count}
	for i := 1; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return Run{}, false
		}
		run.Metrics = append(run.Metrics, Metric{value, fields[i+1]})
	}
	return run, true
}
