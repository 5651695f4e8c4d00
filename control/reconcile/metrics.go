package reconcile

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"k8s.io/client-go/util/workqueue"
)

// Metrics are the figures of all loops of a process, told apart by the label
// "name". The workqueue_* names are those of Kubernetes' controllers, so that
// existing dashboards work. A nil *Metrics counts nothing.
type Metrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	latency, work              *prometheus.HistogramVec
	errors, panics             *prometheus.CounterVec
}

var _ workqueue.MetricsProvider = (*Metrics)(nil)

// NewMetrics registers the metrics with reg, once per registry. A nil reg
// gives nil: no metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	if reg == nil {
		return nil
	}
	f := promauto.With(reg)
	label := []string{"name"}
	counter := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, label)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, label)
	}
	// 10 us to 100 s: a wasm pod's whole way takes milliseconds.
	buckets := prometheus.ExponentialBuckets(1e-5, 10, 8)
	histogram := func(name, help string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, label)
	}
	return &Metrics{
		depth:      gauge("workqueue_depth", "Keys that wait in the queue."),
		adds:       counter("workqueue_adds_total", "Keys added to the queue."),
		latency:    histogram("workqueue_queue_duration_seconds", "How long a key waits before a worker takes it."),
		work:       histogram("workqueue_work_duration_seconds", "How long one reconcile takes."),
		unfinished: gauge("workqueue_unfinished_work_seconds", "Sum of the ages of reconciles that are under way."),
		longest:    gauge("workqueue_longest_running_processor_seconds", "Age of the oldest reconcile under way."),
		retries:    counter("workqueue_retries_total", "Keys that were queued again, after a failure or on request."),
		errors:     counter("wherry_reconcile_errors_total", "Reconciles that failed."),
		panics:     counter("wherry_reconcile_panics_total", "Reconciles that panicked."),
	}
}

func (m *Metrics) failed(loop string) {
	if m != nil {
		m.errors.WithLabelValues(loop).Inc()
	}
}

func (m *Metrics) panicked(loop string) {
	if m != nil {
		m.panics.WithLabelValues(loop).Inc()
	}
}

// NewDepthMetric implements workqueue.MetricsProvider, as do the others below.
func (m *Metrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.depth.WithLabelValues(name)
}

// NewAddsMetric counts added keys.
func (m *Metrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name)
}

// NewLatencyMetric observes the time in the queue.
func (m *Metrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.latency.WithLabelValues(name)
}

// NewWorkDurationMetric observes the time in the reconciler.
func (m *Metrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.work.WithLabelValues(name)
}

// NewUnfinishedWorkSecondsMetric shows stuck work.
func (m *Metrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.unfinished.WithLabelValues(name)
}

// NewLongestRunningProcessorSecondsMetric shows the oldest work.
func (m *Metrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.longest.WithLabelValues(name)
}

// NewRetriesMetric counts retries.
func (m *Metrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name)
}
