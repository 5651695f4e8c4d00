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
		timer := time.NewTimer(time.Duration(hook.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	case hook.HTTPGet != nil:
		if o := p.httpGet(ctx, hook.HTTPGet); o.result != probeSuccess && ctx.Err() == nil {
			w.agent.recorder.EventFor(p.ref, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %s", o.text)
		}
	default:
		w.agent.recorder.EventFor(p.ref, corev1.EventTypeWarning, "FailedPreStopHook",
			"PreStopHook failed: this node runs httpGet and sleep hooks only")
	}
}
