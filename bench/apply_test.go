package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// TestMain lets the test binary serve as the wherry command.
func TestMain(m *testing.M) { clustertest.Main(m) }

// BenchmarkApplyToServed measures the way from the POST of a Deployment, whose
// module is compiled already, to the first HTTP 200 through its Service, for
// the guest in C and for the one in Go (net/http):
//
//	go test ./bench -run '^$' -bench ApplyToServed -benchtime 100x
//
// p50-ms and p99-ms are percentiles of the whole, the other figures are the
// medians of its legs. The first run of each guest, which compiles it, does
// not count.
func BenchmarkApplyToServed(b *testing.B) {
	guests := map[string]func(testing.TB) []byte{
		"guest=c":  func(testing.TB) []byte { return samples.HelloModule },
		"guest=go": goGuest,
	}
	for name, module := range guests {
		b.Run(name, func(b *testing.B) { applyToServed(b, module(b)) })
	}
}

func applyToServed(b *testing.B, module []byte) {
	c := clustertest.New(b)
	c.Push("hello:v1", module)
	apply := bench.Apply{Client: c.Client, Namespace: "default", Image: "hello:v1", Port: 8080}
	if _, err := apply.Run(b.Context(), "warm-up"); err != nil {
		b.Fatal(err)
	}
	var measured []bench.Sample
	for i := 0; b.Loop(); i++ {
		sample, err := apply.Run(b.Context(), fmt.Sprintf("run-%d", i))
		if err != nil {
			b.Fatal(err)
		}
		measured = append(measured, sample)
	}
	for _, metric := range bench.Report(measured) {
		b.ReportMetric(metric.Value, metric.Unit)
	}
}

// goGuest builds samples/hello with the stock toolchain.
func goGuest(b testing.TB) []byte {
	b.Helper()
	out := filepath.Join(b.TempDir(), "hello.wasm")
	build := exec.CommandContext(b.Context(), "go", "build", "-o", out, "../samples/hello")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if message, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build samples/hello: %v\n%s", err, message)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	return module
}
