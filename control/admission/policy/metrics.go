package policy

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

// Metrics are those of admission policies, with Kubernetes' names and
// labels (https://kubernetes.io/docs/reference/instrumentation/metrics/). A nil
// one counts nothing.
type Metrics struct {
	checks, mutations     *prometheus.CounterVec
	duration, mutationFor *prometheus.HistogramVec
}

// NewMetrics makes them.
func NewMetrics() *Metrics {
	labels := []string{"policy", "policy_binding", "error_type", "enforcement_action"}
	buckets := []float64{0.0000005, 0.001, 0.01, 0.1, 1}
	return &Metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_validating_admission_policy_check_total",
			Help: "Validations that failed, or could not be evaluated, and what was done then."}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_validating_admission_policy_check_duration_seconds",
			Help: "How long a policy took that had something against a request.", Buckets: buckets}, labels),
		mutations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_mutating_admission_policy_check_total",
			Help: "Mutations that were made, or could not be."}, labels[:3]),
		mutationFor: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_mutating_admission_policy_check_duration_seconds",
			Help: "How long one mutation took.", Buckets: buckets}, labels[:3]),
	}
}

// Register shows them. It is called once.
func (m *Metrics) Register(r prometheus.Registerer) {
	r.MustRegister(m.checks, m.duration, m.mutations, m.mutationFor)
}

// observe counts what one evaluation of a policy gave and what a binding makes
// of it.
func (m *Metrics) observe(p *validator, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, out result, took time.Duration) {
	if m == nil {
		return
	}
	count := func(err error, action string) {
		kind := kindOf(err)
		m.checks.WithLabelValues(p.Name, b.Name, kind, action).Inc()
		m.duration.WithLabelValues(p.Name, b.Name, kind, action).Observe(took.Seconds())
	}
	for _, err := range out.ignored {
		count(err, "allow")
	}
	for _, f := range out.failures {
		for _, action := range b.Spec.ValidationActions {
			count(f.err, enforced[action])
		}
	}
	for _, text := range out.broken {
		count(errors.New(text), enforced[admissionregistrationv1.Deny])
	}
}

// mutated counts one mutation of a policy, which err has made fail.
func (m *Metrics) mutated(policy, binding string, err error, took time.Duration) {
	if m == nil {
		return
	}
	m.mutations.WithLabelValues(policy, binding, kindOf(err)).Inc()
	m.mutationFor.WithLabelValues(policy, binding, kindOf(err)).Observe(took.Seconds())
}

// kindOf names an error as the metrics do.
func kindOf(err error) string {
	switch {
	case err == nil:
		return "no_error"
	case errors.Is(err, apiservercel.ErrOutOfBudget):
		return "out_of_budget"
	case errors.Is(err, apiservercel.ErrCompilation):
		return "compile_error"
	}
	return "invalid_error"
}

// enforced are the actions of bindings, as the metrics name them.
var enforced = map[admissionregistrationv1.ValidationAction]string{
	admissionregistrationv1.Deny: "deny", admissionregistrationv1.Audit: "audit", admissionregistrationv1.Warn: "warn"}
