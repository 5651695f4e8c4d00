package wasm

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// residentBytes is the process's resident memory.
func residentBytes(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("resident memory is read from /proc")
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize())
}

// BenchmarkIdleGuests starts servers in C and reports what each of them
// costs once it waits, and how often all of them wake while nothing happens:
// before the first request and after it.
// Their pods have no address, so that the ports are in memory only.
func BenchmarkIdleGuests(b *testing.B) {
	b.Run("fresh", func(b *testing.B) { benchmarkIdle(b, 1000, awaitPark) })
	b.Run("served", func(b *testing.B) { benchmarkIdle(b, 1000, askOnce) })
	b.Run("ten thousand", func(b *testing.B) { benchmarkIdle(b, 10_000, awaitPark) })
}

func benchmarkIdle(b *testing.B, guests int, settle func(*testing.B, *container)) {
	image, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
	if err != nil {
		b.Fatal(err)
	}
	rt := shared.harness.Runtime.(*Runtime)
	if err := rt.Prepare(b.Context(), image); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		debug.FreeOSMemory()
		rss, goroutines := residentBytes(b), runtime.NumGoroutine()
		b.StartTimer()
		running := startIdle(b, rt, image, guests, settle)
		b.StopTimer()
		debug.FreeOSMemory()
		b.ReportMetric((residentBytes(b)-rss)/float64(guests)/1024, "KiB/guest")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(guests), "goroutines/guest")
		b.ReportMetric(float64(wakeUps(running, time.Second)), "wake-ups/s")
		for _, c := range running {
			if err := c.sandbox.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}

// awaitPark returns when the guest waits.
func awaitPark(_ *testing.B, c *container) {
	for c.guest.Parks() == 0 {
		runtime.Gosched()
	}
}

// askOnce returns when the guest has answered a request.
func askOnce(b *testing.B, c *container) {
	client := sandboxtest.Client(c.sandbox, 8080)
	defer client.CloseIdleConnections()
	r, err := client.Get("http://pod/")
	if err != nil {
		b.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b.Fatal(r.Status)
	}
}

// startIdle starts servers and returns when each has settled.
func startIdle(b *testing.B, rt *Runtime, image sandbox.Image, count int, settle func(*testing.B, *container)) []*container {
	b.Helper()
	running := make([]*container, 0, count)
	for i := range count {
		s, err := rt.Create(b.Context(), sandbox.Pod{Namespace: "default", Name: fmt.Sprint("idle-", i)})
		if err != nil {
			b.Fatal(err)
		}
		c, err := s.Start(b.Context(), sandbox.ContainerSpec{Name: "web", Image: image, Ports: []sandbox.Port{{Number: 8080}}})
		if err != nil {
			b.Fatal(err)
		}
		settle(b, c.(*container))
		running = append(running, c.(*container))
	}
	return running
}

// wakeUps counts how often guests begin to wait anew within a time.
func wakeUps(running []*container, within time.Duration) (n uint64) {
	count := func() (n uint64) {
		for _, c := range running {
			n += c.guest.Parks()
		}
		return n
	}
	before := count()
	<-time.After(within)
	return count() - before
}
