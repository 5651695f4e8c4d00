package apiserver

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the server's own; names and labels are those of Kubernetes, so
// that dashboards for it fit.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	streams  *prometheus.GaugeVec
	events   *prometheus.CounterVec
	rejected *prometheus.CounterVec
}

func newMetrics(version string) *metrics {
	labels := []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total", Help: "Requests by verb, resource and HTTP code.",
		}, append(labels[:len(labels):len(labels)], "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "Time from the request's arrival to the end of its answer, streams apart.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, labels),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_response_sizes", Help: "Bytes of answers to reads, streams apart.",
			Buckets: prometheus.ExponentialBuckets(1000, 10, 7),
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_current_inflight_requests", Help: "Requests at work, streams apart.",
		}, []string{"request_kind"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests", Help: "Open watches and other streams.",
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_watch_events_total", Help: "Events sent to watches.",
		}, []string{"group", "version", "resource"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_rejected_requests_total", Help: "Requests that found too many others at work.",
		}, []string{"priority_level", "flow_schema", "reason"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubernetes_build_info", Help: "1, labelled by the version that is served.",
	}, []string{"git_version", "go_version", "platform"})
	build.WithLabelValues(version, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH).Set(1)
	m.registry.MustRegister(m.requests, m.duration, m.sizes, m.inFlight, m.streams, m.events, m.rejected, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// atWork counts the reads or the writes at work.
func (m *metrics) atWork(writes bool) prometheus.Gauge {
	if writes {
		return m.inFlight.WithLabelValues("mutating")
	}
	return m.inFlight.WithLabelValues("readOnly")
}

// component is who answers, as Kubernetes calls it.
const component = "apiserver"

// labels tell what a request was about: group, version, resource, subresource
// and scope. Their values are bounded by the served resources: an unknown path
// counts under no resource.
func (c *call) labels() (verb string, about []string) {
	res := c.t.res
	if res == nil || c.t.verb == "" {
		return methodVerb(c.r.Method), []string{"", "", "", "", ""}
	}
	scope := "cluster"
	switch {
	case c.t.name != "" || c.t.verb == "create":
		scope = "resource"
	case c.t.namespace != "":
		scope = "namespace"
	}
	return c.metricVerb(), []string{res.Group, res.Version, res.Name, c.t.sub.Name, scope}
}

// metricVerb is the verb as Kubernetes' metrics call it.
func (c *call) metricVerb() string {
	switch c.t.verb {
	case "create":
		return http.MethodPost
	case "update":
		return http.MethodPut
	case "patch":
		if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/apply-patch") {
			return "APPLY"
		}
	}
	return strings.ToUpper(c.t.verb)
}

// stream counts an open stream.
func (m *metrics) stream(c *call) prometheus.Gauge {
	verb, about := c.labels()
	return m.streams.WithLabelValues(append(append([]string{verb}, about...), component)...)
}

// observe counts one finished request.
func (m *metrics) observe(c *call, took time.Duration) {
	verb, about := c.labels()
	dry := ""
	if c.changes() && c.r.URL.Query().Get("dryRun") != "" {
		dry = "All"
	}
	values := append(append([]string{verb, dry}, about...), component)
	code := c.w.code
	if code == 0 {
		code = 500
	}
	m.requests.WithLabelValues(append(values[:len(values):len(values)], strconv.Itoa(code))...).Inc()
	if c.t.streams {
		return
	}
	m.duration.WithLabelValues(values...).Observe(took.Seconds())
	if verb == "GET" || verb == "LIST" {
		m.sizes.WithLabelValues(append(append([]string{verb}, about...), component)...).Observe(float64(c.w.bytes))
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
