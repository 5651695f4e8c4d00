package bench_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/client"
)

// BenchmarkSchedule measures the way of the pods of one Deployment to their
// nodes, through the real API and the durable store, with nodes that only
// report:
//
//	go test ./bench -run '^$' -bench Schedule -benchtime 1x
//
// One operation is all pods. With report, the nodes also say that the pods run
// while others are still being scheduled. With https, they and the one who counts
// the pods are clients of the API server's port, in the same process, as in
// "wherry bench schedule": both ends of each of their requests count. cpu-us/pod is what
// the whole process used of the processors for each pod; it tells machines that
// are busy otherwise apart from a slow scheduler.
func BenchmarkSchedule(b *testing.B) {
	for _, tt := range []struct {
		nodes, pods int
		report      bool
		via         string
	}{
		{1000, 1000, false, ""},
		{1000, 10000, false, ""},
		{1000, 10000, true, ""},
		{1000, 10000, true, "/via=https"},
		{1000, 50000, false, ""},
	} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d/report=%v%s", tt.nodes, tt.pods, tt.report, tt.via), func(b *testing.B) {
			c := clustertest.New(b, clustertest.Nodes(0))
			user := c.Client
			if tt.via != "" {
				user = overHTTPS(b, c)
			}
			crowd := bench.Crowd{Client: user, Nodes: tt.nodes, Zones: 3, Pods: tt.report}
			if err := crowd.Register(b.Context()); err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			var alive sync.WaitGroup
			defer alive.Wait()
			defer stop()
			alive.Go(func() {
				if err := crowd.Run(ctx); err != nil {
					b.Error(err)
				}
			})
			var total time.Duration
			before := processorTime()
			b.ResetTimer()
			for i := range b.N {
				took, err := bench.Flood{Client: user, Namespace: "default", Pods: tt.pods}.Run(b.Context(), fmt.Sprintf("flood-%d", i))
				if err != nil {
					b.Fatal(err)
				}
				total += took
			}
			b.ReportMetric(float64(tt.pods*b.N)/total.Seconds(), "pods/s")
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(tt.pods*b.N), "cpu-us/pod")
		})
	}
}

// overHTTPS is a client of the cluster's API server.
func overHTTPS(b *testing.B, c *clustertest.Cluster) api.Client {
	b.Helper()
	types, err := api.NewTypes()
	if err != nil {
		b.Fatal(err)
	}
	remote, err := client.New(c.REST(), types, []api.Resource{api.Nodes, api.Pods, api.Leases, api.Deployments})
	if err != nil {
		b.Fatal(err)
	}
	return remote
}
