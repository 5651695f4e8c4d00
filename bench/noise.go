package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"wherry.dev/wherry/bench/result"
)

// Machine describes where the benchmark runs, in the keys that Go benchmarks
// use where they have one.
func Machine() []result.Pair {
	pairs := []result.Pair{{Key: "goos", Value: runtime.GOOS}, {Key: "goarch", Value: runtime.GOARCH}}
	add := func(key, value string) {
		if value != "" {
			pairs = append(pairs, result.Pair{Key: key, Value: value})
		}
	}
	add("cpu", procField("/proc/cpuinfo", "model name"))
	add("processors", fmt.Sprintf("%d, GOMAXPROCS %d", runtime.NumCPU(), runtime.GOMAXPROCS(0)))
	add("memory", procField("/proc/meminfo", "MemTotal"))
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	add("kernel", strings.TrimSpace(string(kernel)))
	add("go", runtime.Version())
	return pairs
}

// procField is the first value of a field of a file "name : value"; "" where
// there is none.
func procField(path, field string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Noise is what a machine does besides. It is measured before and after, so
// that a reader can tell a slow system from a busy machine.
type Noise struct {
	work, timer    result.Histogram
	load           string
	stolen, jiffys float64
	spun           uint64 // what the work came to, so that no compiler leaves it out
}

// The sizes of the measurement of noise: about half a second.
const (
	noiseSpins  = 1000
	noiseSleeps = 200
	noiseSleep  = time.Millisecond
)

// MeasureNoise times the same piece of work many times, and how late timers
// come.
func MeasureNoise(ctx context.Context) *Noise {
	n := &Noise{load: firstFields("/proc/loadavg", 1)}
	n.stolen, n.jiffys = stolen()
	for range noiseSpins {
		begin := time.Now()
		n.spun ^= spin()
		n.work.Add(time.Since(begin))
	}
	for range noiseSleeps {
		begin := time.Now()
		sleep(ctx, noiseSleep)
		n.timer.Add(time.Since(begin) - noiseSleep)
	}
	return n
}

// spin is a fixed piece of work of about 0.2 ms.
//
//go:noinline
func spin() uint64 {
	x := uint64(88172645463325252)
	for range 150_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// Pairs renders the noise under keys that begin with a prefix. since, where it
// is not nil, is an earlier measurement: then the time that other machines took
// from this one's processors in between is told.
func (n *Noise) Pairs(prefix string, since *Noise) []result.Pair {
	quickest := max(float64(n.work.Percentile(0)), 1)
	times := func(p float64) float64 { return float64(n.work.Percentile(p)) / quickest }
	pairs := []result.Pair{
		{Key: prefix + "-work", Value: fmt.Sprintf("the same %v of work takes %.2fx (p50), %.2fx (p99), %.2fx (most) of its quickest",
			n.work.Percentile(0).Round(time.Microsecond), times(50), times(99), times(100))},
		{Key: prefix + "-timer", Value: fmt.Sprintf("timers are late by %v (p50), %v (p99)",
			n.timer.Percentile(50).Round(time.Microsecond), n.timer.Percentile(99).Round(time.Microsecond))},
	}
	if n.load != "" {
		pairs = append(pairs, result.Pair{Key: prefix + "-load", Value: n.load + " (load average of a minute)"})
	}
	if since != nil && n.jiffys > since.jiffys {
		pairs = append(pairs, result.Pair{Key: prefix + "-steal",
			Value: fmt.Sprintf("%.1f %% of the processors went to other machines", 100*(n.stolen-since.stolen)/(n.jiffys-since.jiffys))})
	}
	return pairs
}

func firstFields(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(n, len(fields))], " ")
}

// stolen reads Linux' count of time that the hypervisor took, and of all time.
func stolen() (stolen, all float64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	const stealColumn = 8 // of "cpu user nice system idle iowait irq softirq steal"
	for i, field := range strings.Fields(first) {
		value, err := strconv.ParseFloat(field, 64)
		if err != nil {
			continue
		}
		all += value
		if i == stealColumn {
			stolen = value
		}
	}
	return stolen, all
}
