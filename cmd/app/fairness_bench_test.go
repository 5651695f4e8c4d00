package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// spinTime is for how long shares and latencies are measured.
const spinTime = 5 * time.Second

// spinner is the manifest of a pod that spins, with resources in YAML's flow style.
func spinner(name, resources string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: spin}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "spin:v1", resources: %s}
---`, name, resources)
}

// used returns the processor time of each pod of the node so far, in seconds.
func used(b *testing.B, c *clustertest.Cluster) map[string]float64 {
	b.Helper()
	raw, err := c.Clientset().CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/node-1/proxy/stats/summary").DoRaw(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var summary struct {
		Pods []struct {
			PodRef struct{ Name string }
			CPU    struct{ UsageCoreNanoSeconds int64 }
		}
	}
	if err := json.Unmarshal(raw, &summary); err != nil {
		b.Fatal(err)
	}
	all := map[string]float64{}
	for _, p := range summary.Pods {
		all[p.PodRef.Name] = float64(p.CPU.UsageCoreNanoSeconds) / 1e9
	}
	return all
}

// spinCluster runs pods of the spinning module until the benchmark ends.
func spinCluster(b *testing.B, pods ...string) *clustertest.Cluster {
	b.Helper()
	c := clustertest.New(b)
	c.Push("spin:v1", spinModule)
	startSpinners(b, c, pods...)
	return c
}

func startSpinners(b *testing.B, c *clustertest.Cluster, pods ...string) {
	b.Helper()
	c.Apply(strings.Join(pods, "\n"))
	c.Kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=spin", "--timeout=180s")
}

// BenchmarkFairness shares processors among pods that never stop by
// themselves: by their limits, by their requests, and with a server beside them.
//
//	go test ./cmd/app -run '^$' -bench Fairness -benchtime 1x
func BenchmarkFairness(b *testing.B) {
	for _, field := range []string{"limits", "requests"} {
		b.Run(field, func(b *testing.B) {
			c := spinCluster(b, spinner("small", "{"+field+`: {cpu: 100m}}`), spinner("large", "{"+field+`: {cpu: 500m}}`))
			before := used(b, c)
			<-time.After(spinTime) // the quantity itself
			after := used(b, c)
			small, large := after["small"]-before["small"], after["large"]-before["large"]
			b.ReportMetric(small/spinTime.Seconds(), "cores-of-100m")
			b.ReportMetric(large/spinTime.Seconds(), "cores-of-500m")
			b.ReportMetric(large/small, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
	b.Run("server", func(b *testing.B) {
		c := clustertest.New(b)
		c.Push("spin:v1", spinModule)
		c.Push("hello:v1", samples.HelloModule)
		c.Apply(webManifest)
		c.Kubectl("rollout", "status", "deployment/web", "--timeout=180s")
		service, err := api.Get[*corev1.Service](b.Context(), c.Client, api.Services.Key("default", "web"))
		if err != nil {
			b.Fatal(err)
		}
		reportLatency(b, clusterURL(service), "alone")
		startSpinners(b, c, spinner("spin-1", "{}"), spinner("spin-2", "{}"), spinner("spin-3", "{}"), spinner("spin-4", "{}"))
		reportLatency(b, clusterURL(service), "beside")
		b.ReportMetric(0, "ns/op")
	})
}

// reportLatency asks a URL at a steady rate, on kept connections, and reports
// how long answers took from when they were due.
func reportLatency(b *testing.B, url, when string) {
	b.Helper()
	const clients, pause = 4, 20 * time.Millisecond
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: clustertest.Patience}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all []time.Duration
	var group sync.WaitGroup
	end := time.Now().Add(spinTime)
	for i := range clients {
		group.Go(func() {
			for due := time.Now().Add(pause * time.Duration(i) / clients); due.Before(end); due = due.Add(pause) {
				<-time.After(time.Until(due))
				_, err := ask(client, url)
				took := time.Since(due)
				mu.Lock()
				if all = append(all, took); err != nil {
					b.Errorf("%s: %v", when, err)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, "p50-ms-"+when)
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1e3, "p99-ms-"+when)
}
