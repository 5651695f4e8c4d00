package apiserver_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchHeap is the file for a profile of what the server of the benchmarks
// keeps when it is told to end.
const benchHeap = "WHERRY_BENCH_HEAP"

func writeHeap() {
	name := os.Getenv(benchHeap)
	if name == "" {
		return
	}
	file, err := os.Create(fmt.Sprintf("%s.%d", name, os.Getpid())) // of several servers
	if err == nil {
		runtime.GC()
		err = pprof.WriteHeapProfile(file)
		_ = file.Close()
	}
	if err != nil {
		slog.Error("bench server", "error", err)
	}
}

// memory is a field of the server's memory in MB: VmRSS, what is resident now,
// or VmHWM, the most that ever was.
func (s *bench) memory(field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), field+":")
	kb, err := strconv.ParseFloat(strings.Fields(after + " 0")[0], 64)
	if err != nil {
		s.b.Fatal(err)
	}
	return kb * 1024 / 1e6
}

// settle is how long the server is left alone before its memory is read again.
const settle = 10 * time.Second

// BenchmarkServerMemory keeps 100,000 pods: what the server takes at most while
// they are created, when it has been left alone, and with a durable log the
// same of another server that reads them from the disk.
func BenchmarkServerMemory(b *testing.B) {
	withLogs(b, func(b *testing.B) {
		for b.Loop() {
			benchMemory(b)
		}
	})
}

func benchMemory(b *testing.B) {
	dir := b.TempDir()
	s, end := startBench(b, dir, 16)
	b.ReportMetric(s.memory("VmRSS"), "MB-empty")
	s.each(100_000, func(client *http.Client, i int) { s.ask(client, "POST", collection, s.pod(fmt.Sprintf("web-%d", i))) })
	b.ReportMetric(float64(s.cpu().Microseconds())/100_000, "server-us/op")
	b.ReportMetric(s.memory("VmRSS"), "MB-full")
	b.ReportMetric(s.memory("VmHWM"), "MB-peak")
	time.Sleep(settle)
	b.ReportMetric(s.memory("VmRSS"), "MB-settled")
	end()
	if os.Getenv(benchLog) != logOnDisk {
		return
	}
	s, end = startBench(b, dir, 16)
	time.Sleep(settle)
	b.ReportMetric(s.memory("VmRSS"), "MB-restarted")
	b.ReportMetric(s.memory("VmHWM"), "MB-restart-peak")
	s.ask(s.clients[0], "GET", collection, nil)
	b.ReportMetric(s.memory("VmHWM"), "MB-restart-listed")
	end()
}
