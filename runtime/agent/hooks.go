package agent

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// preStop runs the hook of a container that is about to be stopped, within
// its grace period. Its failure is told and changes nothing, as documented.
func (w *worker) preStop(p *prober, run sandbox.Container, hook *corev1.LifecycleHandler, grace time.Duration) {
	ctx, cancel := context.WithTimeout(w.agent.ctx, grace)
	defer cancel()
	if text := p.hook(ctx, run, hook); text != "" {
		w.agent.recorder.EventFor(p.ref, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %s", text)
	}
}

// postStart runs the hook of a container that has just been started. A failure
// ends the container, as documented.
func (w *worker) postStart(p *prober, run sandbox.Container, hook *corev1.LifecycleHandler, state *probes) {
	if text := p.hook(w.agent.ctx, run, hook); text != "" {
		w.agent.recorder.EventFor(p.ref, corev1.EventTypeWarning, failedPostStart, "PostStartHook failed: %s", text)
		state.demand(failedPostStart, nil)
		w.poke()
	}
}

// failedPostStart is the event's reason, in kubelet's word.
const failedPostStart = "FailedPostStartHook"

// hook runs a lifecycle hook to its end, or to that of the container or of ctx.
// It returns why it failed, "" when it did not.
func (p *prober) hook(ctx context.Context, run sandbox.Container, hook *corev1.LifecycleHandler) string {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { // a container that ends by itself needs no hook any more
		select {
		case <-run.Done():
			cancel()
		case <-ctx.Done():
		}
	})
	switch {
	case hook.Sleep != nil:
		timer := time.NewTimer(wholeSeconds(hook.Sleep.Seconds))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	case hook.HTTPGet != nil:
		if o := p.httpGet(ctx, hook.HTTPGet); o.result != probeSuccess && ctx.Err() == nil {
			return o.text
		}
	default:
		return "this node runs httpGet and sleep hooks only"
	}
	return ""
}
