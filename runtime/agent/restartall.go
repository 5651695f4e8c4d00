package agent

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// wantsAllAgain reports whether the end of a container demands that all of the
// pod's run again, init containers first
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-all-containers).
func (w *worker) wantsAllAgain(pod *corev1.Pod, c *container, code int32) bool {
	if w.restarting || w.over || pod.DeletionTimestamp != nil || c.debug || restartRule(c.spec(pod), code) != corev1.ContainerRestartRuleActionRestartAllContainers {
		return false
	}
	if c.init { // it has nothing else that its back-off could be counted from
		c.failed = time.Now()
	}
	for _, other := range slices.Concat(w.main, w.init) {
		if other != c {
			other.forced = true // it was not its fault
		}
		other.again = true
	}
	return true
}

// restartAll ends what runs in the pod and has it begin anew, in the sandbox
// and with the volumes that it has. It reports whether that is still under way.
func (w *worker) restartAll(pod *corev1.Pod) bool {
	if !w.restarting {
		return false
	}
	running := false
	for _, c := range slices.Concat(w.main, w.init) {
		if c.run == nil {
			continue
		}
		running = true
		if c.stop == nil {
			w.end(pod, c, "Container "+c.name+" will be restarted, because all containers of the pod are")
		}
	}
	if running {
		return true // their ends wake us
	}
	for _, c := range w.init {
		c.last, c.terminated = firstOf(c.terminated, c.last), nil
	}
	w.begun, w.restarting = false, false
	return false
}

// end ends a container at once: no hook, no grace.
func (w *worker) end(pod *corev1.Pod, c *container, text string) {
	w.event(pod, c, corev1.EventTypeNormal, "Killing", "%s", text)
	c.probes.end()
	c.stop = &stopping{until: time.Now()}
	box, p := w.box, w.prober(pod, c)
	w.agent.tasks.run(func() { w.stopRun(p, box, nil, 0) })
}
