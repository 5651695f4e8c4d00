package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/tracing"
)

// The steps of a pod's start. What a step waits for counts as its own time, so
// that the steps add up to the whole.
const (
	stepAdmit   = "admission" // until it is admitted and has an address
	stepVolumes = "volumes"
	stepSandbox = "sandbox"
	stepImage   = "image"   // pulled and verified, or found
	stepCompile = "compile" // the module made ready: compiled, loaded, or kept in memory
	stepConfig  = "config"  // environment, mounts, arguments
	stepStart   = "start"   // instances of the modules
	stepInit    = "init"    // init containers at work
	stepReady   = "ready"   // until the probes are content
	stepTotal   = "total"   // in the histogram: all of them
)

// timings divide the time of a pod's start, from when the agent met the pod to
// when it was Ready first, among its steps. They belong to the worker.
type timings struct {
	began, last time.Time
	steps       []timing
	told        bool
}

type timing struct {
	step  string
	began time.Time // of its first part
	took  time.Duration
}

func newTimings(now time.Time) timings { return timings{began: now, last: now} }

// lap gives the time since the last lap to a step. Once the start has been told
// it does nothing.
func (t *timings) lap(step string) {
	if t.told {
		return
	}
	now := time.Now()
	t.add(step, t.last, now.Sub(t.last))
	t.last = now
}

// lapIn is lap for two steps, of which the second took the last part of the
// time.
func (t *timings) lapIn(first, second string, part time.Duration) {
	if t.told {
		return
	}
	now := time.Now()
	part = min(part, now.Sub(t.last))
	t.add(first, t.last, now.Sub(t.last)-part)
	t.add(second, now.Add(-part), part)
	t.last = now
}

func (t *timings) add(step string, began time.Time, took time.Duration) {
	for i := range t.steps {
		if t.steps[i].step == step {
			t.steps[i].took += took
			return
		}
	}
	t.steps = append(t.steps, timing{step, began, took})
}

// String is the message of the event: "started in 4.1 ms: image 0.2 ms, start
// 1.2 ms". The web page reads it.
func (t *timings) String() string {
	texts := make([]string, 0, len(t.steps))
	for _, s := range t.steps {
		texts = append(texts, s.step+" "+milliseconds(s.took))
	}
	return "started in " + milliseconds(t.last.Sub(t.began)) + ": " + strings.Join(texts, ", ")
}

// milliseconds has about three digits, never an exponent.
func milliseconds(d time.Duration) string {
	ms := d.Seconds() * 1000
	switch {
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms >= 1:
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.3f ms", ms)
}

// tellStart says once, by an event and in the node's metrics, where the time of
// the pod's start went.
func (w *worker) tellStart(pod *corev1.Pod, status *corev1.PodStatus) {
	if w.timings.told || !podReady(status) {
		return
	}
	w.timings.lap(stepReady)
	w.timings.told = true
	w.agent.recorder.Event(pod, corev1.EventTypeNormal, "StartTimings", "%s", w.timings.String())
	for _, s := range w.timings.steps {
		w.agent.metrics.starts.WithLabelValues(s.step).Observe(s.took.Seconds())
	}
	w.agent.metrics.starts.WithLabelValues(stepTotal).Observe(w.timings.last.Sub(w.timings.began).Seconds())
	w.timings.trace(w.agent.ctx, w.agent.cfg.Tracer, pod)
	w.timings.steps = nil
}

// trace draws the start and its steps. The parts of a step that was made in
// several are drawn as one.
func (t *timings) trace(ctx context.Context, tracer trace.Tracer, pod *corev1.Pod) {
	if tracer == nil {
		return
	}
	ctx, ok := tracing.Parent(ctx, pod)
	if !ok {
		return
	}
	ctx = tracing.Draw(ctx, tracer, "start pod", t.began, t.last, attribute.String("k8s.pod.name", pod.Name),
		attribute.String("k8s.namespace.name", pod.Namespace), attribute.String("k8s.node.name", pod.Spec.NodeName))
	for _, s := range t.steps {
		tracing.Draw(ctx, tracer, s.step, s.began, s.began.Add(s.took))
	}
}

func podReady(status *corev1.PodStatus) bool {
	for _, c := range status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
