package agent

import (
	"context"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// probes is what is known of one run of a container by its probes. A nil
// *probes belongs to a container that does not run. It is safe for concurrent
// use.
type probes struct {
	cancel context.CancelFunc
	begun  chan struct{} // closed when the startup probe has succeeded
	hooked chan struct{} // closed when the postStart hook has succeeded

	mu      sync.Mutex
	started bool
	ready   bool
	kill    string // what demands the container's end: "liveness", "startup", failedPostStart
	own     *int64 // a probe's terminationGracePeriodSeconds
}

func (p *probes) isStarted() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started && p.isHooked()
}

// isHooked reports whether the container has passed its postStart hook, which
// is when it begins to count as running.
func (p *probes) isHooked() bool {
	select {
	case <-p.hooked:
		return true
	default:
		return false
	}
}

func (p *probes) isReady() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started && p.ready && p.isHooked()
}

func (p *probes) verdict() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill
}

func (p *probes) grace() *int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.own
}

// demand asks for the container's end.
func (p *probes) demand(kill string, own *int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill, p.own = kill, own
}

// end stops probing. The last results stand for as long as the container
// runs: what is being stopped may still serve, and who asks whether it should
// get new work looks at the pod's deletion.
func (p *probes) end() {
	if p != nil {
		p.cancel()
	}
}

// startProbes begins to probe a container that has just been started. Without
// probes it is started and ready at once.
func (w *worker) startProbes(pod *corev1.Pod, c *container) *probes {
	spec := c.spec(pod)
	ctx, cancel := context.WithCancel(w.agent.ctx)
	p := &probes{cancel: cancel, begun: make(chan struct{}), hooked: make(chan struct{}),
		started: spec.StartupProbe == nil, ready: spec.ReadinessProbe == nil}
	if p.started {
		close(p.begun)
	}
	if postStartOf(spec) == nil {
		close(p.hooked)
	}
	prober := w.prober(pod, c)
	for _, l := range []probeLoop{
		{kind: "Startup", spec: spec.StartupProbe}, {kind: "Readiness", spec: spec.ReadinessProbe}, {kind: "Liveness", spec: spec.LivenessProbe},
	} {
		if l.spec == nil || c.init && !c.sidecar {
			continue
		}
		l.worker, l.prober, l.probes, l.began = w, prober, p, time.Now()
		w.agent.tasks.run(func() { l.run(ctx) })
	}
	return p
}

// probeLoop runs one probe of one run of a container.
type probeLoop struct {
	worker *worker
	prober *prober
	probes *probes
	kind   string // "Startup", "Readiness", "Liveness", as events begin
	spec   *corev1.Probe
	began  time.Time // start of the container

	successes, failures int32
}

func seconds(n, otherwise int32) time.Duration {
	if n <= 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// quickest is the first of the waits between the attempts that a readiness
// probe makes beside its period for as long as it has never succeeded: "the
// readinessProbe may be executed at times other than the configured
// periodSeconds interval, to make the Pod ready faster" (API reference). These
// attempts count only when they succeed.
const quickest = 10 * time.Millisecond

func (l *probeLoop) run(ctx context.Context) {
	first := l.probes.hooked
	if l.kind != "Startup" {
		first = l.probes.begun
	}
	for _, turn := range []chan struct{}{l.probes.hooked, first} {
		select {
		case <-turn:
		case <-ctx.Done():
			return
		}
	}
	period := seconds(l.spec.PeriodSeconds, 10)
	timer := time.NewTimer(time.Until(l.began.Add(time.Duration(l.spec.InitialDelaySeconds) * time.Second)))
	defer timer.Stop()
	fast := l.kind == "Readiness"
	quick := quickest
	due := time.Time{} // of the next regular attempt
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		if due.IsZero() {
			due = now
			if fast {
				due = now.Add(period) // the first attempt nearly always comes too early
			}
		}
		regular := !now.Before(due)
		if regular {
			due = now.Add(period)
		}
		succeeded := l.attempt(ctx, regular)
		if ctx.Err() != nil || l.over() {
			return
		}
		fast = fast && !l.probes.isReady()
		wait := time.Until(due)
		if fast && !succeeded {
			wait = min(wait, quick)
			quick = min(2*quick, time.Second)
		}
		timer.Reset(wait)
	}
}

// over reports whether this probe has nothing more to say.
func (l *probeLoop) over() bool {
	if l.probes.verdict() != "" {
		return true
	}
	return l.kind == "Startup" && l.probes.isStarted()
}

// attempt probes once and draws the conclusions that the thresholds allow.
func (l *probeLoop) attempt(ctx context.Context, regular bool) (succeeded bool) {
	limit, cancel := context.WithTimeout(ctx, seconds(l.spec.TimeoutSeconds, 1))
	defer cancel()
	o := l.prober.probe(limit, &l.spec.ProbeHandler)
	if ctx.Err() != nil {
		return false
	}
	switch {
	case o.result == probeSuccess:
		l.failures = 0
		l.successes++
		if l.successes >= max(l.spec.SuccessThreshold, 1) {
			l.passed()
		}
		return true
	case !regular:
		return false
	case o.result == probeUnknown:
		l.unhealthy("%s probe errored and resulted in unknown state: %s", l.kind, o.text)
		return false
	}
	l.unhealthy("%s probe failed: %s", l.kind, o.text)
	l.successes = 0
	l.failures++
	threshold := l.spec.FailureThreshold
	if threshold <= 0 {
		threshold = 3
	}
	if l.failures >= threshold {
		l.failed()
	}
	return false
}

func (l *probeLoop) unhealthy(format string, args ...any) {
	l.worker.agent.recorder.EventFor(l.prober.ref, corev1.EventTypeWarning, "Unhealthy", format, args...)
}

// passed and failed record a conclusion and wake the worker if it is new.
func (l *probeLoop) passed() {
	p := l.probes
	p.mu.Lock()
	news := false
	switch l.kind {
	case "Startup":
		if news = !p.started; news {
			p.started = true
			close(p.begun)
		}
	case "Readiness":
		news, p.ready = !p.ready, true
	}
	p.mu.Unlock()
	if news {
		l.worker.poke()
	}
}

func (l *probeLoop) failed() {
	p, news := l.probes, true
	if l.kind == "Readiness" {
		p.mu.Lock()
		news, p.ready = p.ready, false
		p.mu.Unlock()
	} else {
		p.demand(strings.ToLower(l.kind), l.spec.TerminationGracePeriodSeconds)
	}
	if news {
		l.worker.poke()
	}
}
