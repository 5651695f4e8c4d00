package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// preStop runs the hook of a container that is about to be stopped, within
// its grace period. Its failure is told and changes nothing, as documented.
func (w *worker) preStop(p *prober, hook *corev1.LifecycleHandler, grace time.Duration) {
	ctx, cancel := context.WithTimeout(w.agent.ctx, grace)
	defer cancel()
	if text := p.hook(ctx, hook); text != "" {
		w.agent.recorder.EventFor(p.ref, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %s", text)
	}
}

// postStart runs the hook of a container that has just been started. A failure
// ends the container, as documented; until it has succeeded the container does
// not count as running.
func (w *worker) postStart(p *prober, hook *corev1.LifecycleHandler, state *probes) {
	if text := p.hook(w.agent.ctx, hook); text != "" {
		w.agent.recorder.EventFor(p.ref, corev1.EventTypeWarning, failedPostStart, "PostStartHook failed: %s", text)
		state.demand(failedPostStart, nil)
	} else {
		close(state.hooked)
	}
	w.poke()
}

// hooking reports whether the container's first start is under way and not past
// its postStart hook. One that fails to start does not hold the others up.
func (c *container) hooking(pod *corev1.Pod) bool {
	switch {
	case postStartOf(c.spec(pod)) == nil:
		return false
	case c.run != nil:
		return !c.probes.isHooked()
	}
	return (c.terminated == nil || c.again) && c.waiting == nil
}

func postStartOf(c *corev1.Container) *corev1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	return c.Lifecycle.PostStart
}

// failedPostStart is the event's reason, in kubelet's word.
const failedPostStart = "FailedPostStartHook"

// hook runs a lifecycle hook to its end, or to that of the container or of ctx.
// It returns why it failed, "" when it did not.
func (p *prober) hook(ctx context.Context, hook *corev1.LifecycleHandler) string {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { // a container that ends by itself needs no hook any more
		select {
		case <-p.run.Done():
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
	case hook.Exec != nil:
		code, output, err := p.command(ctx, hook.Exec.Command)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err.Error()
		case code != 0:
			return fmt.Sprintf("command '%s' exited with %d: %s", strings.Join(hook.Exec.Command, " "), code, output)
		}
	default:
		return "invalid handler: use exec, httpGet or sleep"
	}
	return ""
}
