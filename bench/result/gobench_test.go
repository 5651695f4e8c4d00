package result

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestCompare compares the reports of testdata: golden files, in both formats.
func TestCompare(t *testing.T) {
	read := func(name string) *Report {
		t.Helper()
		f, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		report, err := Read(f)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	for _, pair := range [][2]string{{"old.txt", "new.txt"}, {"old.txt", "few.txt"}, {"old.json", "new.txt"}} {
		c := Compare(read(pair[0]), read(pair[1]))
		var got strings.Builder
		for _, change := range c.Changes {
			fmt.Fprintf(&got, "%s %s: %s -> %s, %s, %s, too few %v\n", change.Name, change.Unit, change.Old, change.New, change.Percents(), change.Verdict, change.TooFew)
		}
		fmt.Fprintf(&got, "only old %v\nonly new %v\nset-up %v\n", c.OnlyOld, c.OnlyNew, c.Setup)
		golden := filepath.Join("testdata", strings.ReplaceAll(pair[0], ".", "-")+"_"+strings.ReplaceAll(pair[1], ".", "-")+".golden")
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%v: got\n%s\nwant\n%s", pair, got.String(), want)
		}
		if _, err := json.Marshal(c); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

// TestGoFormatRoundTrip: what is written is what is read, by us as by benchstat.
func TestGoFormatRoundTrip(t *testing.T) {
	report := &Report{Setup: []Pair{{"goos", "linux"}, {"noise", "two\nlines"}}, Results: []Result{{Scenario: "requests", Name: "via=pod-ip/connections=1", Runs: []Run{
		{Count: 100, Metrics: []Metric{{1234.5, "ns/op"}, {0.0123, "p50-us"}}}, {Count: 90, Metrics: []Metric{{1300, "ns/op"}}}}}}}
	var out bytes.Buffer
	if err := WriteSetup(&out, report); err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if err := WriteGo(&out, r); err != nil {
			t.Fatal(err)
		}
	}
	back, err := Read(&out)
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Setup) != 2 || back.Setup[1] != (Pair{"noise", "two lines"}) {
		t.Errorf("set-up %v", back.Setup)
	}
	r := back.Results[0]
	if len(back.Results) != 1 || r.Key() != "requests/via=pod-ip/connections=1" || len(r.Runs) != 2 || r.Runs[0].Count != 100 ||
		fmt.Sprint(r.Values("ns/op"), r.Values("p50-us")) != "[1234 1300] [0.0123]" && fmt.Sprint(r.Values("ns/op"), r.Values("p50-us")) != "[1235 1300] [0.0123]" {
		t.Errorf("got %+v", back.Results)
	}
}

func TestReadRefusesOtherFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "no line of it",
		"PASS\nok pkg 1s\n":                     "no line of it",
		"Benchmark-8 1 2 ns/op\n":               "no line of it",
		`{"schema":9}`:                          "schema is 9",
		`{"schema":1}`:                          "no results",
		`{"schema":1,"results":[{}]}`:           "results[0].scenario",
		`{"schema":1,"results":[{"runs":[7]}]}`: "not a report",
		`{`:                                     "not a report",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Read(%q) gave %v, want %q", text, err, want)
		}
	}
}
