package wasm

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/sock"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// The benchmarks of this file run the same modules here and in wazero of the
// same version as it comes, with its own WASI and sockets:
//
//	task bench:go
//
// What stock has begun it cannot end (an idle server of its spins, and nothing
// can interrupt it), so its servers come last and live as long as the process.

// stock is wazero as it comes, with one module.
type stock struct {
	rt       wazero.Runtime
	compiled wazero.CompiledModule
}

func newStock(b *testing.B, image sandbox.Image) *stock {
	b.Helper()
	ctx := context.Background()
	s := &stock{rt: wazero.NewRuntime(ctx)}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, s.rt); err != nil {
		b.Fatal(err)
	}
	code, err := os.ReadFile(image.Module)
	if err != nil {
		b.Fatal(err)
	}
	if s.compiled, err = s.rt.CompileModule(ctx, code); err != nil {
		b.Fatal(err)
	}
	return s
}

func (s *stock) instantiate(ctx context.Context, args ...string) (api.Module, error) {
	cfg := wazero.NewModuleConfig().WithName("").WithStartFunctions().WithArgs(append([]string{"guest"}, args...)...).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	return s.rt.InstantiateModule(ctx, s.compiled, cfg)
}

// benchImages are the modules, smallest first; args make them end at once.
func benchImages(b *testing.B) (names []string, images map[string]sandbox.Image) {
	names = []string{"C, 19 kB", "Go, 2.7 MB", "Go http, 9 MB", "Go with CEL, 15 MB"}
	small, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
	if err != nil {
		b.Fatal(err)
	}
	return names, map[string]sandbox.Image{
		names[0]: small, names[1]: shared.guests.Tool(b), names[2]: shared.guests.Web(b), names[3]: shared.guests.Rules(b),
	}
}

// median of what one does, in microseconds.
func median(b *testing.B, one func() time.Duration) {
	var took []time.Duration
	for b.Loop() {
		took = append(took, one())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
	b.ReportMetric(0, "ns/op") // of little meaning beside the median
}

// BenchmarkColdStart is the time from a compiled module to an instance that
// can be called ("instance"), and to the end of a program that says a word ("run").
func BenchmarkColdStart(b *testing.B) {
	ctx := context.Background()
	names, images := benchImages(b)
	rt := shared.harness.Runtime.(*Runtime)
	check := func(b *testing.B, err error) {
		if err != nil && exitOf(err) != 0 {
			b.Fatal(err)
		}
	}
	for i, name := range names {
		runs := i == 1 || i == 3 // the others are servers
		p, err := rt.engine.load(ctx, images[name])
		if err != nil {
			b.Fatal(err)
		}
		ours := func(run bool) time.Duration {
			began := time.Now()
			meter, gauge := module.NewMeter(0), module.NewGauge(256<<20)
			guest, err := wasi.NewGuest(ctx, wasi.Config{Args: []string{"guest", "say:word"}})
			check(b, err)
			guestCtx := wasi.WithGuest(module.WithMeter(ctx, meter), guest)
			in, err := p.instantiate(guestCtx, module.Limits{Memory: gauge, Meter: meter})
			check(b, err)
			took := time.Since(began)
			if run {
				_, err = meter.Call(guestCtx, in.ExportedFunction(startFunction), gauge)
				check(b, err)
			}
			guest.Close()
			check(b, in.Close(ctx))
			if run {
				took = time.Since(began)
			}
			return took
		}
		b.Run(name+"/instance/ours", func(b *testing.B) { median(b, func() time.Duration { return ours(false) }) })
		if runs {
			b.Run(name+"/run/ours", func(b *testing.B) { median(b, func() time.Duration { return ours(true) }) })
		}
		p.release()
		s := newStock(b, images[name])
		plain := func(run bool) time.Duration {
			began := time.Now()
			in, err := s.instantiate(ctx, "say:word")
			check(b, err)
			took := time.Since(began)
			if run {
				_, err = in.ExportedFunction(startFunction).Call(ctx)
				check(b, err)
			}
			check(b, in.Close(ctx))
			if run {
				took = time.Since(began)
			}
			return took
		}
		b.Run(name+"/instance/stock", func(b *testing.B) { median(b, func() time.Duration { return plain(false) }) })
		if runs {
			b.Run(name+"/run/stock", func(b *testing.B) { median(b, func() time.Duration { return plain(true) }) })
		}
		if err := s.rt.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequests loads one Go net/http server over TCP from another process,
// on the same processors.
func BenchmarkRequests(b *testing.B) {
	image := shared.guests.Web(b)
	h := shared.harness
	s := h.Pod(b, nil)
	_, out := h.Start(b, s, sandbox.ContainerSpec{Image: image, Ports: []sandbox.Port{{Number: 8090}}})
	out.Await(b, "serving")
	at := func(host string) string { return net.JoinHostPort(host, "8090") }
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n, "/ours"), func(b *testing.B) { load(b, at(s.Pod().IP.String()), n) })
	}
	const host = "127.99.2.1"
	plain := newStock(b, image)
	in, err := plain.instantiate(sock.WithConfig(context.Background(), sock.NewConfig().WithTCPListener(host, 8090)), "nonblock")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _, _ = in.ExportedFunction(startFunction).Call(context.Background()) }()
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n, "/stock"), func(b *testing.B) { load(b, at(host), n) })
	}
}

// idleTime is for how long the use of processors by idle servers is measured.
const idleTime = 3 * time.Second

// BenchmarkIdleServers starts servers and reports what each holds, and what all
// of them use while nobody asks. Stock runs fewer: each spins.
func BenchmarkIdleServers(b *testing.B) {
	names, images := benchImages(b)
	measure := func(b *testing.B, n int, start func(i int)) (before float64) {
		debug.FreeOSMemory()
		before = residentBytes(b)
		for i := range n {
			start(i)
		}
		debug.FreeOSMemory()
		b.ReportMetric((residentBytes(b)-before)/float64(n)/1024, "KiB/guest")
		used := processorTime(b)
		<-time.After(idleTime) // the quantity itself
		b.ReportMetric(100*float64(processorTime(b)-used)/float64(idleTime), "%core")
		b.ReportMetric(0, "ns/op")
		return before
	}
	rt := shared.harness.Runtime.(*Runtime)
	for kind, counts := range map[string][]int{names[0]: {1, 100, 1000, 5000}, names[2]: {1, 100, 1000}} {
		for _, n := range counts {
			b.Run(fmt.Sprint(kind, "/", n, "/ours"), func(b *testing.B) {
				var running []*container
				before := measure(b, n, func(i int) { running = append(running, startIdle(b, rt, images[kind], 1, awaitPark)...) })
				if kind == names[2] {
					awaitTrims(b, running, before)
				}
				for _, c := range running {
					if err := c.sandbox.Close(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	plain := newStock(b, images[names[2]])
	for i, n := range []int{1, 20} {
		b.Run(fmt.Sprint(names[2], "/", n, "/stock"), func(b *testing.B) {
			measure(b, n, func(k int) {
				ctx := sock.WithConfig(context.Background(), sock.NewConfig().WithTCPListener(fmt.Sprint("127.99.", 3+i, ".", k+1), 8090))
				in, err := plain.instantiate(ctx, "nonblock")
				if err != nil {
					b.Fatal(err)
				}
				go func() { _, _ = in.ExportedFunction(startFunction).Call(ctx) }()
				runtime.Gosched()
			})
		})
	}
}

// awaitTrims waits until the memory of all guests has been trimmed, and reports
// what each holds then, what that has cost, and how long the first request
// after it takes.
func awaitTrims(b *testing.B, running []*container, before float64) {
	used := processorTime(b)
	for _, c := range running {
		for c.memory.Trims() == 0 {
			<-time.After(10 * time.Millisecond)
		}
	}
	n := float64(len(running))
	b.ReportMetric(float64((processorTime(b)-used).Microseconds())/n, "trim-cpu-us/guest")
	debug.FreeOSMemory()
	b.ReportMetric((residentBytes(b)-before)/n/1024, "trimmed-KiB/guest")
	worst, collections := time.Duration(0), debug.GCStats{}
	for range 5 {
		began := time.Now()
		runtime.GC()
		worst = max(worst, time.Since(began))
	}
	debug.ReadGCStats(&collections)
	b.ReportMetric(float64(worst.Microseconds())/1e3, "gc-ms")
	b.ReportMetric(float64(slices.Max(collections.Pause[:5]).Microseconds())/1e3, "gc-pause-ms")
	var first, second []time.Duration
	for _, c := range running[:min(len(running), 100)] {
		for _, took := range []*[]time.Duration{&first, &second} {
			began := time.Now()
			askOnce(b, c)
			*took = append(*took, time.Since(began))
		}
	}
	slices.Sort(first)
	slices.Sort(second)
	b.ReportMetric(float64(first[len(first)/2].Microseconds()), "first-us")
	b.ReportMetric(float64(second[len(second)/2].Microseconds()), "second-us")
}
