package wasm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// loadTime is how long each run of a load lasts.
const loadTime = 2 * time.Second

// loadVariable makes this test's binary the client of a load: "address
// connections". A client in the server's process would share Go's processors
// with the guest, and its use of them could not be told from the guest's.
const loadVariable = "WHERRY_LOAD_CLIENT"

// loaded is what came of a load. The times are microseconds.
type loaded struct {
	Requests, Starved int
	P50, P99          int64
}

// load makes requests on kept connections for a while, each one waiting for
// its answer, and reports what came of it. cpu-us is what this process, the
// server's, used of processors for each request: other than the rest, it says
// something also when the machine is busy with other work.
func load(b *testing.B, address string, connections int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint(loadVariable, "=", address, " ", connections))
	cmd.Stderr = os.Stderr
	used := processorTime(b)
	answer, err := cmd.Output()
	used = processorTime(b) - used
	var l loaded
	if err == nil {
		err = json.Unmarshal(answer, &l)
	}
	if err != nil {
		b.Fatalf("the client: %v", err)
	}
	if l.Requests == 0 {
		b.Fatal("no request was answered")
	}
	b.ReportMetric(float64(l.Requests)/loadTime.Seconds(), "requests/s")
	b.ReportMetric(float64(l.P50), "p50-us")
	b.ReportMetric(float64(l.P99), "p99-us")
	b.ReportMetric(float64(l.Starved), "starved")
	b.ReportMetric(float64(used.Microseconds())/float64(l.Requests), "cpu-us/request")
	b.ReportMetric(0, "ns/op")
}

// runClient is the client's process. It reports whether this is one.
func runClient() bool {
	order, ok := os.LookupEnv(loadVariable)
	if !ok {
		return false
	}
	var address string
	var connections int
	if _, err := fmt.Sscan(order, &address, &connections); err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(makeRequests(address, connections)); err != nil {
		panic(err)
	}
	return true
}

func makeRequests(address string, connections int) (l loaded) {
	var mu sync.Mutex
	var all []time.Duration
	var group sync.WaitGroup
	end := time.Now().Add(loadTime)
	for range connections {
		group.Go(func() {
			took, err := oneClient(address, end)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			if all = append(all, took...); len(took) == 0 {
				l.Starved++
			}
		})
	}
	group.Wait()
	if l.Requests = len(all); l.Requests > 0 {
		slices.Sort(all)
		l.P50, l.P99 = all[len(all)/2].Microseconds(), all[len(all)*99/100].Microseconds()
	}
	return l
}

// oneClient returns the times of the requests that were answered before end.
func oneClient(address string, end time.Time) (took []time.Duration, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetReadDeadline(end)
	in := bufio.NewReader(c)
	for {
		began := time.Now()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: guest\r\n\r\n"); err != nil {
			return took, err
		}
		r, err := http.ReadResponse(in, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		if err != nil { // the time is over
			return took, nil
		}
		took = append(took, time.Since(began))
	}
}

// processorTime is what the process has used of processors.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
