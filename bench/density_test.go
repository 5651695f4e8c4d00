package bench_test

import (
	"flag"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

var (
	densityPods  = flag.Int("density.pods", 200, "how many pods BenchmarkDensity runs")
	densityGuest = flag.String("density.guest", "c", "which guest it runs: c, or go (net/http)")
)

// BenchmarkDensity scales a Deployment of the small guest on one node from
// none to -density.pods, to none and up again:
//
//	go test ./bench -run '^$' -bench Density -benchtime 1x -args -density.pods 1000
//	go test ./bench -run '^$' -bench Density -benchtime 1x -args -density.pods 100 -density.guest go
//
// KiB/pod is the process' resident memory beyond the empty cluster's, API
// objects included, per pod; cpu-us/pod is the processor time until they are
// ready, later-cpu-us/pod that until their events are written; idle-%core is the
// share of one core that the process uses while all pods idle. (Linux)
func BenchmarkDensity(b *testing.B) {
	n := *densityPods
	c := clustertest.New(b, func(cfg *app.Config) {
		cfg.NodeBits = cfg.PodCIDR.Bits() // one node, all addresses
	})
	module := samples.HelloModule
	if *densityGuest == "go" {
		module = goGuest(b)
	}
	c.Push("hello:v1", module)
	d := bench.Density{Client: c.Client, Namespace: "default", Name: "dense", Image: "hello:v1", Port: 8080}
	ip, err := d.Setup(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	scale := func(replicas int) time.Duration {
		b.Helper()
		took, err := d.Scale(b.Context(), replicas)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%d replicas after %v", replicas, took.Round(time.Millisecond))
		return took
	}
	scale(1)
	scale(0)
	address := netip.MustParseAddr(ip)
	var up, down, kib, idle, goroutines, cpu, later float64
	for b.Loop() {
		memory, routines := resident(b), runtime.NumGoroutine()
		used := processorTime()
		up += scale(n).Seconds()
		ready := processorTime()
		cpu += float64((ready - used).Microseconds()) / float64(n)
		if err := d.Quiet(b.Context()); err != nil {
			b.Fatal(err)
		}
		later += float64((processorTime() - ready).Microseconds()) / float64(n)
		if err := bench.Answered(b.Context(), "http://"+netip.AddrPortFrom(address, 8080).String()+"/"); err != nil {
			b.Fatal(err)
		}
		kib += float64(resident(b)-memory) / float64(n)
		goroutines += float64(runtime.NumGoroutine()-routines) / float64(n)
		idle += idleShare()
		down += scale(0).Seconds()
		up += scale(n).Seconds()
		down += scale(0).Seconds()
	}
	rounds := float64(b.N)
	b.ReportMetric(0, "ns/op") // the sum of unlike things
	b.ReportMetric(float64(2*n)*rounds/up, "up-pods/s")
	b.ReportMetric(float64(2*n)*rounds/down, "down-pods/s")
	b.ReportMetric(cpu/rounds, "cpu-us/pod")
	b.ReportMetric(later/rounds, "later-cpu-us/pod")
	b.ReportMetric(kib/rounds, "KiB/pod")
	b.ReportMetric(goroutines/rounds, "goroutines/pod")
	b.ReportMetric(100*idle/rounds, "idle-%core")
}

// resident is the process' resident memory in KiB after a collection; 0 where
// it cannot be told.
func resident(b *testing.B) int {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return kib
		}
	}
	return 0
}

// idleShare measures the process' use of processors over some seconds.
func idleShare() float64 {
	began, before := time.Now(), processorTime()
	<-time.After(5 * time.Second) // the quantity itself: what happens while nothing does
	return float64(processorTime()-before) / float64(time.Since(began))
}
