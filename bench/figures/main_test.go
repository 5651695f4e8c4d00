package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/bench/result"
)

const someResults = `cpu: Abacus
noise-load: 0.10
BenchmarkApply/guest=c-2	20	4800000 ns/op	4800 p50-us	523 api-us
BenchmarkApply/guest=c-2	20	5000000 ns/op	5000 p50-us	525 api-us
BenchmarkApply/guest=c-2	20	4900000 ns/op	4900 p50-us	524 api-us
BenchmarkStore/log=wherry/writers=64/loop=closed-2	9	23740.4 ops/s
BenchmarkFuel/tiny-2	60	2.0 ratio
BenchmarkFuel/fib-2	60	0.5 ratio
`

// TestFigures puts figures into a text, and names those that are not there.
func TestFigures(t *testing.T) {
	report, err := result.Read(strings.NewReader(someResults))
	if err != nil {
		t.Fatal(err)
	}
	f := figures{results: map[string]result.Result{}, setup: map[string]string{}}
	f.add(report)
	var out strings.Builder
	if err := f.write(&out, `{{v "apply/guest=c" "ns/op"}}, {{v "apply/guest=c" "p50-us"}}, {{n "apply/guest=c" "api-us"}}, {{n "store/log=wherry/writers=64/loop=closed" "ops/s"}}, `+
		`{{geomean "fuel" "ratio"}}, {{setup "cpu"}}, {{n "nothing" "ops"}}`); err != nil {
		t.Fatal(err)
	}
	if want := "4.9 ms, 4.9 ms, 524, 23,700, 1.00, Abacus, -"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if len(f.missing) != 1 || f.missing[0] != "nothing ops" {
		t.Errorf("missing: %q", f.missing)
	}
}

// TestText: the text of the documentation can be written, whatever is missing.
func TestText(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bench.txt")
	if err := os.WriteFile(name, []byte(someResults), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := run([]string{name}, &out)
	if err == nil || !strings.Contains(err.Error(), "no result has\n") {
		t.Errorf("nearly all figures are missing, and it says %v", err)
	}
	if !strings.HasPrefix(out.String(), "# Benchmarks\n") || !strings.Contains(out.String(), "23,700") {
		t.Errorf("it writes\n%s", out.String())
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0123456: "0.0123", 1: "1", 9.996: "10", 12.34: "12.3", 99.96: "100", 123.4: "123",
		999.7: "1,000", 23740.4: "23,700", 1234567: "1,230,000", -1500: "-1,500"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
	for ns, want := range map[float64]string{12: "12 ns", 4800: "4.8 us", 4.9e6: "4.9 ms", 31.84e9: "31.8 s"} {
		if got := duration(ns); got != want {
			t.Errorf("duration(%v) = %q, want %q", ns, got, want)
		}
	}
}
