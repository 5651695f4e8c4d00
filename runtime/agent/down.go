package agent

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/volume"
)

const (
	defaultGrace = 30 * time.Second
	// minGrace is what a removed pod and the sidecars of a stopped pod get at
	// least, as in kubelet.
	minGrace = time.Second
	// stopSlack is what a runtime may take to kill after the grace period
	// before its whole sandbox is closed.
	stopSlack = 10 * time.Second
	// hookSlack is the one-time extension of the grace period that a container
	// gets after its preStop hook
	// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow).
	hookSlack = 2 * time.Second
)

// graceOf is the pod's grace period; a probe may bring its own.
func graceOf(pod *corev1.Pod, own *int64) time.Duration {
	if own == nil {
		own = pod.Spec.TerminationGracePeriodSeconds
	}
	if own == nil {
		return defaultGrace
	}
	return wholeSeconds(*own)
}

// wholeSeconds is a number of seconds as the API has it, which may be more than
// a Duration can hold: then it is a hundred years.
func wholeSeconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 3600
	return time.Duration(min(max(n, -century), century)) * time.Second
}

// shutdownGrace is the grace period of the whole pod.
func shutdownGrace(in input) time.Duration {
	grace := graceOf(in.pod, in.pod.DeletionGracePeriodSeconds)
	if in.evicted != nil && in.evicted.shutdown != nil {
		return min(grace, *in.evicted.shutdown)
	}
	if in.evicted != nil {
		return min(grace, minGrace) // what it holds is needed now
	}
	if in.removed {
		return max(grace, minGrace)
	}
	return grace
}

// bringDown ends what runs and frees what the pod has. It sets w.down when
// nothing is left.
func (w *worker) bringDown(ctx context.Context, in input) time.Duration {
	if w.down {
		return 0
	}
	for _, c := range w.containers() {
		c.abandonPulls()
	}
	if w.stopAll(in) {
		return 0 // their ends wake us
	}
	if gone, wait := w.closeBox(); !gone {
		return wait // or its end wakes us
	}
	w.free(in)
	w.over, w.down = true, true
	return 0
}

// stopAll asks the running containers to end, sidecars after all others and
// in reverse order, and reports whether any still runs.
func (w *worker) stopAll(in input) bool {
	grace := shutdownGrace(in)
	now := time.Now()
	if until := now.Add(grace); w.deadline.IsZero() || until.Before(w.deadline) {
		w.deadline = until
	}
	running := false
	for _, c := range w.containers() {
		if c.run != nil && !c.sidecar {
			running = true
			w.kill(in.pod, c, max(0, w.deadline.Sub(now)), "Stopping container "+c.name)
		}
	}
	for i := len(w.init) - 1; i >= 0 && !running; i-- {
		if c := w.init[i]; c.run != nil {
			running = true
			w.kill(in.pod, c, max(minGrace, w.deadline.Sub(now)), "Stopping container "+c.name)
		}
	}
	return running
}

// kill stops a container in order. Called again it only ever shortens the
// grace period.
func (w *worker) kill(pod *corev1.Pod, c *container, grace time.Duration, text string) {
	until := time.Now().Add(grace)
	if c.stop != nil && !until.Before(c.stop.until.Add(-100*time.Millisecond)) {
		return
	}
	hook := c.spec(pod).Lifecycle
	if c.stop != nil {
		hook = nil // it runs already
	} else {
		w.event(pod, c, corev1.EventTypeNormal, "Killing", "%s", text)
		c.probes.end()
	}
	c.stop = &stopping{grace: grace, until: until}
	box, p := w.box, w.prober(pod, c)
	w.agent.tasks.run(func() { w.stopRun(p, box, hook, grace) })
}

// stopRun runs beside the worker. The end of the container wakes the worker.
func (w *worker) stopRun(p *prober, box sandbox.Sandbox, hook *corev1.Lifecycle, grace time.Duration) {
	began := time.Now()
	if hook != nil && hook.PreStop != nil && grace > 0 {
		w.preStop(p, hook.PreStop, grace)
	}
	left := max(grace-time.Since(began), 0)
	if hook != nil && hook.PreStop != nil {
		left = max(left, hookSlack) // what the hook has used up is not the guest's fault
	}
	ctx, cancel := context.WithTimeout(w.agent.ctx, left+stopSlack)
	defer cancel()
	if err := p.run.Stop(ctx, left); err != nil && w.agent.ctx.Err() == nil {
		w.log.Error("container did not stop in time, closing its sandbox", "container", p.spec.Name, "err", err)
		_ = w.closeBoxOf(box) // it has said so; the pod's end tries again
	}
}

func (w *worker) closeBoxOf(box sandbox.Sandbox) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.agent.ctx), stopSlack)
	defer cancel()
	err := box.Close(ctx)
	if err != nil {
		w.log.Error("cannot close sandbox", "err", err)
	}
	return err
}

// closeBox ends the sandbox beside the worker and reports whether it is gone.
// One that does not end keeps its pod, whose address and volumes it may still
// use; it is tried again after wait.
func (w *worker) closeBox() (gone bool, wait time.Duration) {
	if w.box == nil {
		return true, 0
	}
	if wait := w.boxRetry.pending(); wait > 0 {
		return false, wait
	}
	if w.boxClosed == nil {
		w.boxClosed = make(chan error, 1)
		w.closing = true
		w.agent.workers.stopServing(w.ip, w.uid)
		box, closed := w.box, w.boxClosed
		w.agent.tasks.run(func() {
			closed <- w.closeBoxOf(box)
			w.poke()
		})
	}
	select {
	case err := <-w.boxClosed:
		w.boxClosed = nil
		if err != nil {
			return false, w.boxRetry.failed(time.Second, time.Minute)
		}
		w.box = nil
		return true, 0
	default:
		return false, 0
	}
}

// free gives back the address and the volumes and, when the pod is gone from
// the API, its logs.
func (w *worker) free(in input) {
	ip := w.ip
	if !ip.IsValid() { // it may have been kept for a pod that was never started
		ip, _ = netip.ParseAddr(in.pod.Status.PodIP)
	}
	w.agent.addresses.free(ip, string(w.uid))
	w.agent.usage.release(w.uid)
	w.agent.refs.release(w)
	if w.vols == nil { // it may have had some in an earlier life of the agent
		w.vols = volume.NewSet(w.agent.podDir(w.uid), nil)
	}
	if err := w.vols.Remove(); err != nil {
		w.log.Error("cannot remove the pod's volumes; they are removed at the next start", "err", err)
	}
}
