package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// resizeRetry is how often a resize that did not fit, or failed, is tried again.
const resizeRetry = 5 * time.Second

// resizing is how far a change of a running pod's resources has come
// (https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/).
// The zero value has nothing to do.
type resizing struct {
	pending *verdict // the node cannot give what is asked for: Deferred or Infeasible
	failed  string   // why a container could not be changed; "" when none could not
	working bool     // containers have not got yet what the node has set aside
}

// resize sets aside what the pod's spec asks for now, when the node has it, and
// gives it to the running containers. It returns when to look again.
func (w *worker) resize(pod *corev1.Pod) time.Duration {
	before, taken := w.resizing, false
	w.resizing = resizing{}
	if w.differs(pod) {
		w.resizing.pending = w.agent.usage.resize(pod, w.agent.cfg.Capacity)
		if taken = w.resizing.pending == nil; taken {
			for _, c := range w.containers() {
				c.allocated = *c.spec(pod).Resources.DeepCopy()
			}
		}
	}
	for _, c := range w.containers() {
		w.actuate(pod, c)
	}
	w.tellResize(pod, before, taken)
	if w.resizing.pending != nil || w.resizing.failed != "" {
		return resizeRetry
	}
	return 0
}

// differs reports whether the spec asks for something else than was set aside.
func (w *worker) differs(pod *corev1.Pod) bool {
	return slices.ContainsFunc(w.containers(), func(c *container) bool {
		return !c.debug && !equalSemantic(c.spec(pod).Resources, c.allocated)
	})
}

// actuate gives a running container what was set aside for it, by a restart if
// its policy for a resource that changes says so.
func (w *worker) actuate(pod *corev1.Pod, c *container) {
	if c.run == nil || c.stop != nil || equalSemantic(c.actual, c.allocated) {
		return
	}
	if restartsFor(c.spec(pod), &c.actual, &c.allocated) {
		w.resizing.working = true
		c.forced = true
		w.kill(pod, c, graceOf(pod, nil), fmt.Sprintf("Container %s resize requires restart", c.name))
		return
	}
	if err := c.run.Resize(resourcesOf(pod, &c.allocated)); err != nil {
		w.resizing.working, w.resizing.failed = true, err.Error()
		return
	}
	c.actual = c.allocated
}

// restartsFor reports whether a container's resizePolicy wants a restart for one
// of the resources that differ.
func restartsFor(spec *corev1.Container, old, now *corev1.ResourceRequirements) bool {
	return slices.ContainsFunc(spec.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
		limit, before := now.Limits[p.ResourceName], old.Limits[p.ResourceName]
		request, asked := now.Requests[p.ResourceName], old.Requests[p.ResourceName]
		return p.RestartPolicy == corev1.RestartContainer && (limit.Cmp(before) != 0 || request.Cmp(asked) != 0)
	})
}

// tellResize writes events about what is new; taken says that the node has just
// set aside what was asked for.
func (w *worker) tellResize(pod *corev1.Pod, before resizing, taken bool) {
	now := w.resizing
	event := func(kind, reason, format string, args ...any) {
		w.agent.recorder.Event(pod, kind, "Resize"+reason, format, args...)
	}
	switch {
	case now.pending != nil:
		if before.pending == nil || *before.pending != *now.pending {
			event(corev1.EventTypeWarning, now.pending.reason, "%s", now.pending.message)
		}
	case now.failed != "":
		if before.failed != now.failed {
			event(corev1.EventTypeWarning, "Error", "Pod resize failed: %s", now.failed)
		}
	case now.working:
		if !before.working {
			event(corev1.EventTypeNormal, "Started", "Pod resize started")
		}
	case before.working || taken:
		event(corev1.EventTypeNormal, "Completed", "Pod resize completed")
	}
}

// resizeConditions are the conditions that tell of a resize that is not over.
func (w *worker) resizeConditions() (list []corev1.PodCondition) {
	if p := w.resizing.pending; p != nil {
		list = append(list, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: p.reason, Message: p.message})
	}
	if w.resizing.working {
		c := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}
		if w.resizing.failed != "" {
			c.Reason, c.Message = corev1.PodReasonError, w.resizing.failed
		}
		list = append(list, c)
	}
	return list
}

// loadSizes takes over what a former agent had set aside for a container.
func (c *container) loadSizes(pod *corev1.Pod, s *corev1.ContainerStatus) {
	c.allocated = *c.spec(pod).Resources.DeepCopy()
	if s == nil || s.Resources == nil {
		return
	}
	c.allocated.Limits = s.Resources.Limits.DeepCopy()
	c.allocated.Requests = s.AllocatedResources.DeepCopy()
}

// evict ends the pod, from outside of its worker. The first reason stands.
func (w *worker) evict(reason, message string) { w.condemn(&verdict{reason: reason, message: message}) }

func (w *worker) condemn(v *verdict) {
	w.mu.Lock()
	if w.evicted == nil {
		w.evicted = v
	}
	w.mu.Unlock()
	w.poke()
}

// live is one running container as others than its worker see it. Guarded by
// worker.mu.
type live struct {
	run     sandbox.Container
	began   time.Time
	request int64 // bytes of memory
	// older and newer are the last two looks at it, for the rate of its use.
	older, newer sample
}

// sample is the processor time that a container had used at a time.
type sample struct {
	at  time.Time
	cpu time.Duration
}

// setLive tells others that a container runs or, with a nil run, that it has
// ended.
func (w *worker) setLive(c *container, run sandbox.Container) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if run == nil {
		delete(w.live, c.name)
		return
	}
	if w.live == nil {
		w.live = make(map[string]*live)
	}
	now := sample{at: c.began}
	w.live[c.name] = &live{run: run, began: c.began, request: c.allocated.Requests.Memory().Value(), older: now, newer: now}
}

// housekeep looks after what changes by itself: use of processors, disks and
// memory.
func (a *Agent) housekeep(ctx context.Context) error {
	a.machine.processor(time.Now())
	tick := time.NewTicker(checkPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.machine.processor(time.Now())
		all := a.workers.all()
		for _, w := range all {
			w.sample()
			if reason := w.overStorage(); reason != "" {
				w.evict("Evicted", reason)
			}
		}
		a.relieve(ctx, all)
	}
}
