package webhooks

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wherry.dev/wherry/control/api"
)

// The types of webhooks, as the metrics name them.
const (
	admit      = "admit"
	validating = "validating"
)

// metrics have Kubernetes' names and labels.
type metrics struct {
	duration                       *prometheus.HistogramVec
	requests, rejections, openings *prometheus.CounterVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_admission_" + name, Help: help}, append([]string{"name", "type"}, labels...))
	}
	return &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_webhook_admission_duration_seconds",
			Help: "How long a webhook takes.", Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25}}, []string{"name", "type", "operation", "rejected"}),
		requests:   counter("webhook_request_total", "Calls of webhooks.", "operation", "code", "rejected"),
		rejections: counter("webhook_rejection_count", "Requests refused by webhooks, or because they failed.", "operation", "error_type", "rejection_code"),
		openings:   counter("webhook_fail_open_count", "Failures of webhooks that let the request pass."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.requests, m.rejections, m.openings}
}

// observe counts one call, which began at a time and ended with an error.
func (m *metrics) observe(h *hook, kind string, op api.Operation, began time.Time, err error) {
	code, refused, why := int32(200), err != nil, ""
	var failed *failure
	var no *rejection
	switch {
	case errors.As(err, &failed):
		code, why = failed.code, "calling_webhook_error"
		refused = !h.ignore
	case errors.As(err, &no):
		code, why = no.ErrStatus.Code, "no_error"
	case err != nil:
		code, why = 0, "apiserver_internal_error"
	}
	number, rejected := strconv.Itoa(int(min(code, 600))), strconv.FormatBool(refused)
	m.duration.WithLabelValues(h.name, kind, string(op), rejected).Observe(time.Since(began).Seconds())
	m.requests.WithLabelValues(h.name, kind, string(op), number, rejected).Inc()
	if refused {
		m.rejections.WithLabelValues(h.name, kind, string(op), why, number).Inc()
	}
}

// passed counts a failure that lets the request pass.
func (m *metrics) passed(h *hook, kind string) {
	m.openings.WithLabelValues(h.name, kind).Inc()
}
