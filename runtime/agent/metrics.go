package agent

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// figures are the node's figures, in a registry of its own: a process may run
// several nodes.
type figures struct {
	registry *prometheus.Registry
	starts   *prometheus.HistogramVec // by step
}

func newMetrics(a *Agent) *figures {
	m := &figures{registry: prometheus.NewRegistry()}
	f := promauto.With(m.registry)
	m.starts = f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "wherry_pod_start_seconds", Help: "Time of pods' starts, from when the node met a pod to when it was Ready, by step; step=\"total\" is the whole.",
		Buckets: prometheus.ExponentialBuckets(1e-5, 4, 12), // 10 us to 42 s
	}, []string{"step"})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_running_pods", Help: "Pods that have a sandbox on this node."},
		func() float64 { return float64(a.workers.serving()) })
	return m
}

// serveOwnMetrics answers GET /metrics: the node's figures and what shares its
// process.
func (a *Agent) serveOwnMetrics(w http.ResponseWriter, r *http.Request) {
	all := prometheus.Gatherers{a.metrics.registry}
	if a.cfg.Metrics != nil {
		all = append(all, a.cfg.Metrics)
	}
	promhttp.HandlerFor(all, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}
