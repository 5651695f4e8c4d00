package scheduler

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/tracing"
)

// travel is what a trace tells of a pod's way through the scheduler. It is
// nil, and does nothing, when there are no traces.
type travel struct {
	came, began, ended time.Time // into the queue; the pick
	attempts           int
}

// departs begins an attempt.
func (s *Scheduler) departs(it *item) *travel {
	if s.cfg.Tracer == nil {
		return nil
	}
	return &travel{came: it.since, began: time.Now(), attempts: it.attempts + 1}
}

// picked says that a node was found.
func (t *travel) picked() {
	if t != nil {
		t.ended = time.Now()
	}
}

// arrives draws the spans once the binding has been answered.
func (t *travel) arrives(ctx context.Context, tracer trace.Tracer, pod *corev1.Pod, node string, outcome error) {
	if t == nil {
		return
	}
	ctx, ok := tracing.Parent(ctx, pod)
	if !ok {
		return
	}
	came, now := t.began, time.Now()
	if !t.came.IsZero() {
		came = t.came
	}
	within, span := tracer.Start(ctx, "schedule", trace.WithTimestamp(came), trace.WithAttributes(
		attribute.String("k8s.pod.name", pod.Name), attribute.String("k8s.namespace.name", pod.Namespace),
		attribute.String("k8s.node.name", node), attribute.Int("attempts", t.attempts)))
	tracing.Draw(within, tracer, "pick", t.began, t.ended)
	tracing.Draw(within, tracer, "bind", t.ended, now)
	tracing.Fail(span, outcome)
	span.End(trace.WithTimestamp(now))
}
