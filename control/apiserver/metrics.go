package apiserver

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the server's own; their names are those of Kubernetes, so that
// dashboards for it fit.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	streams  prometheus.Gauge
}

func newMetrics() *metrics {
	labels := []string{"verb", "group", "version", "resource", "subresource", "scope"}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total", Help: "Requests by verb, resource and HTTP code.",
		}, append(labels[:len(labels):len(labels)], "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "Time from the request's arrival to the end of its answer, streams apart.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, labels),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "apiserver_current_inflight_requests", Help: "Requests at work, streams apart.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests", Help: "Open watches and log streams.",
		}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.inFlight, m.streams,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts one finished request. The label values are bounded by the
// served resources: an unknown path counts under no resource.
func (m *metrics) observe(c *call, took time.Duration) {
	verb, groupName, versionName, resource, sub, scope := methodVerb(c.r.Method), "", "", "", "", ""
	if res := c.t.res; res != nil && c.t.verb != "" {
		verb, groupName, versionName, resource, sub = strings.ToUpper(c.t.verb), res.Group, res.Version, res.Name, c.t.sub.Name
		switch {
		case c.t.name != "":
			scope = "resource"
		case c.t.namespace != "":
			scope = "namespace"
		default:
			scope = "cluster"
		}
	}
	code := c.w.code
	if code == 0 {
		code = 500
	}
	m.requests.WithLabelValues(verb, groupName, versionName, resource, sub, scope, strconv.Itoa(code)).Inc()
	if !c.t.streams {
		m.duration.WithLabelValues(verb, groupName, versionName, resource, sub, scope).Observe(took.Seconds())
	}
}

func methodVerb(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

// Registry is where other parts of the process add what /metrics shows.
func (s *Server) Registry() prometheus.Registerer { return s.metrics.registry }

// metricsPage answers /metrics.
func (c *call) metricsPage() {
	promhttp.HandlerFor(c.s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
}
