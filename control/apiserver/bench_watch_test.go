package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkServerWatch measures how late 1,000 watches are told of a change:
// all of them of one pod, or each of a pod of its own, as agents are.
func BenchmarkServerWatch(b *testing.B) {
	b.Run("told=all", func(b *testing.B) { watchPods(b, 1) })
	b.Run("told=one", func(b *testing.B) { watchPods(b, watches) })
}

const watches = 1000

// watchPods spreads the watches over pods and changes one pod after the other.
func watchPods(b *testing.B, pods int) {
	s := newBench(b, 16)
	latencies := make(chan time.Duration, watches)
	var wrote atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var all, ready sync.WaitGroup
	for i := range watches {
		ready.Add(1)
		all.Go(func() { s.watch(ctx, i, i%pods, ready.Done, &wrote, latencies) })
	}
	ready.Wait()
	s.each(pods, func(client *http.Client, i int) { s.ask(client, "POST", collection, s.pod(fmt.Sprint("web-", i))) })
	for range watches {
		<-latencies
	}
	var seen []time.Duration
	server, client := s.cpu(), s.timeOf(os.Getpid())
	b.ResetTimer()
	for i := range b.N {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"n":"%d"}}}`, i)
		request, err := http.NewRequestWithContext(ctx, "PATCH", fmt.Sprint(s.url, collection, "/web-", i%pods), bytes.NewReader(patch))
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/merge-patch+json")
		wrote.Store(time.Now().UnixNano())
		answer, err := s.clients[0].Do(request)
		if err != nil {
			b.Fatal(err)
		}
		_ = answer.Body.Close()
		for range watches / pods {
			seen = append(seen, <-latencies)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((s.cpu()-server).Microseconds())/float64(len(seen)), "server-us/event")
	b.ReportMetric(float64((s.timeOf(os.Getpid())-client).Microseconds())/float64(len(seen)), "client-us/event")
	slices.Sort(seen)
	b.ReportMetric(float64(seen[len(seen)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(seen[len(seen)*99/100].Microseconds()), "p99-us")
	cancel()
	all.Wait()
}

// watch follows a pod by one of the clients, and tells how long after the last
// write it sees each event.
func (s *bench) watch(ctx context.Context, i, pod int, open func(), wrote *atomic.Int64, latencies chan<- time.Duration) {
	url := fmt.Sprintf("%s%s?watch=1&fieldSelector=metadata.name%%3Dweb-%d&resourceVersion=0", s.url, collection, pod)
	request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		s.b.Error(err)
		return
	}
	answer, err := s.clients[i%len(s.clients)].Do(request)
	open()
	if err != nil {
		s.b.Error(err)
		return
	}
	defer answer.Body.Close()
	buffer := make([]byte, 16<<10)
	for {
		if _, err := answer.Body.Read(buffer); err != nil {
			return
		}
		latencies <- time.Duration(time.Now().UnixNano() - wrote.Load())
	}
}
