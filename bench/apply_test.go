package bench_test

import (
	"fmt"
	"testing"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// BenchmarkApplyToServed measures the way from the POST of a Deployment, whose
// module is compiled already, to the first HTTP 200 through its Service:
//
//	go test ./bench -run '^$' -bench ApplyToServed -benchtime 100x
//
// p50-ms and p99-ms are percentiles of the whole, the other figures are the
// medians of its legs.
func BenchmarkApplyToServed(b *testing.B) {
	c := clustertest.New(b)
	c.Push("hello:v1", samples.HelloModule)
	apply := bench.Apply{Client: c.Client, Namespace: "default", Image: "hello:v1", Port: 8080}
	if _, err := apply.Run(b.Context(), "warm-up"); err != nil {
		b.Fatal(err)
	}
	var samples []bench.Sample
	for i := 0; b.Loop(); i++ {
		sample, err := apply.Run(b.Context(), fmt.Sprintf("run-%d", i))
		if err != nil {
			b.Fatal(err)
		}
		samples = append(samples, sample)
	}
	for _, metric := range bench.Report(samples) {
		b.ReportMetric(metric.Value, metric.Unit)
	}
}

// TestMain lets the test binary serve as the wherry command.
func TestMain(m *testing.M) { clustertest.Main(m) }
