package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/volume"
)

// mountState is what is known of the pod's volumes.
type mountState struct {
	ready      bool
	generation string // metadata of the pod they were made for: labels and annotations show in files
	retry      retry
}

// bringUp makes a pod that shall run do so, as far as possible now.
func (w *worker) bringUp(ctx context.Context, in input) time.Duration {
	pod := in.pod
	if !w.admitted {
		if w.verdict = w.agent.admit(w, pod); w.verdict != nil {
			w.agent.recorder.Event(pod, corev1.EventTypeWarning, w.verdict.reason, "%s", w.verdict.message)
			w.over = true
			return 0
		}
		w.admitted = true
	}
	if w.verdict = in.evicted; w.verdict != nil {
		w.over, w.disrupted = true, true
		if w.verdict.shutdown != nil {
			return 0 // the node's events say it for all
		}
		w.agent.recorder.Event(pod, corev1.EventTypeWarning, w.verdict.reason, "%s", w.verdict.message)
		return 0
	}
	untilDeadline, passed := w.activeDeadline(pod)
	if passed {
		w.verdict = &verdict{reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline"}
		w.agent.recorder.Event(pod, corev1.EventTypeNormal, "DeadlineExceeded", "%s", w.verdict.message)
		w.over = true
		return 0
	}
	if w.finished(pod) {
		w.over = true
		return 0
	}
	wait, ok := w.prepare(ctx, in)
	if ok {
		if w.restartAll(pod) {
			return earliest(wait, untilDeadline)
		}
		wait = earliest(wait, w.resize(pod))
		wait = earliest(wait, w.runContainers(ctx, pod))
		w.over = w.finished(pod)
	}
	return earliest(wait, untilDeadline)
}

func (w *worker) activeDeadline(pod *corev1.Pod) (wait time.Duration, passed bool) {
	if pod.Spec.ActiveDeadlineSeconds == nil {
		return 0, false
	}
	wait = time.Until(w.started.Add(wholeSeconds(*pod.Spec.ActiveDeadlineSeconds)))
	return wait, wait <= 0
}

// finished reports whether the pod has come to its own end.
func (w *worker) finished(pod *corev1.Pod) bool {
	for _, c := range w.init {
		if c.run == nil && !c.sidecar && c.terminated != nil && c.terminated.ExitCode != 0 && !c.shouldRestart(pod) {
			return true // a failed init container fails the pod
		}
	}
	for _, c := range w.main {
		if c.run != nil || c.terminated == nil || c.shouldRestart(pod) {
			return false
		}
	}
	return true
}

// prepare makes the pod's address, volumes and sandbox. ok is false when
// something has to be waited for.
func (w *worker) prepare(ctx context.Context, in input) (wait time.Duration, ok bool) {
	pod := in.pod
	if err := w.address(pod); err != nil {
		if !errors.Is(err, errNoPrefix) { // else the agent wakes us when there is one
			w.agent.recorder.Event(pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
			wait = 10 * time.Second
		}
		return wait, false
	}
	if len(w.timings.steps) == 0 {
		w.timings.lap(stepAdmit)
	}
	if wait, ok = w.mount(ctx, in); !ok {
		return wait, false
	}
	if w.box != nil {
		return wait, true
	}
	if pending := w.boxRetry.pending(); pending > 0 {
		return pending, false
	}
	var box sandbox.Sandbox
	err := w.handled(ctx, pod)
	if err == nil {
		box, err = w.agent.cfg.Runtime.Create(ctx, w.sandboxPod(pod))
	}
	if err != nil {
		w.agent.recorder.Event(pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		return w.boxRetry.failed(time.Second, time.Minute), false
	}
	w.boxRetry.reset()
	w.box = box
	w.timings.lap(stepSandbox)
	w.agent.workers.serve(w.ip, w.uid, box)
	return wait, true
}

// address takes the pod's IP, the one of its status if it is still free.
func (w *worker) address(pod *corev1.Pod) error {
	if w.ip.IsValid() {
		return nil
	}
	if !w.agent.settled.Load() {
		return errNoPrefix
	}
	if pod.Spec.HostNetwork {
		w.ip = w.agent.hostIP
		return nil
	}
	if had, err := netip.ParseAddr(pod.Status.PodIP); err == nil && w.agent.addresses.reserve(had, string(w.uid)) {
		w.ip = had
		return nil
	}
	ip, err := w.agent.addresses.take(string(w.uid))
	w.ip = ip
	return err
}

// mount makes the volumes and, when something they show has changed, writes
// them again. A failed update leaves the old content and the pod alone.
func (w *worker) mount(ctx context.Context, in input) (wait time.Duration, ok bool) {
	pod := in.pod
	if len(pod.Spec.Volumes) == 0 {
		return 0, true
	}
	shown := fmt.Sprint(pod.Labels, pod.Annotations)
	if w.volsAt.ready && !in.sources && w.volsAt.generation == shown && w.volsAt.retry.wait == 0 {
		if wait = w.untilRenewal(); wait >= 0 {
			return wait, true
		}
	}
	if pending := w.volsAt.retry.pending(); pending > 0 && !in.sources {
		return pending, w.volsAt.ready
	}
	if w.vols == nil {
		w.vols = volume.NewSet(w.agent.podDir(w.uid), reader{w.agent.cfg.Client})
		w.agent.refs.use(ctx, w, pod)
	}
	err := w.vols.Sync(ctx, pod, w.node())
	if err != nil {
		w.mountFailed(pod, err)
		return w.volsAt.retry.failed(500*time.Millisecond, 2*time.Minute+2*time.Second), w.volsAt.ready
	}
	if !w.volsAt.ready {
		w.timings.lap(stepVolumes)
	}
	w.volsAt = mountState{ready: true, generation: shown}
	return max(0, w.untilRenewal()), true
}

// untilRenewal is how long the tokens in the volumes serve: 0 means for ever,
// less that it is time for new ones.
func (w *worker) untilRenewal() time.Duration {
	at := w.vols.RenewAt()
	if at.IsZero() {
		return 0
	}
	if left := time.Until(at); left > 0 {
		return left
	}
	return -1
}

func (w *worker) mountFailed(pod *corev1.Pod, err error) {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, e := range list {
		w.agent.recorder.Event(pod, corev1.EventTypeWarning, "FailedMount", "%v", e)
	}
}

// node is what the downward API shows of the node to this pod.
func (w *worker) node() volume.Node {
	n := volume.Node{HostIPs: w.agent.hostIPs(), Claims: w.agent.claims.dir, Allocatable: w.agent.allocatable()}
	if w.ip.IsValid() {
		n.PodIPs = []string{w.ip.String()}
	}
	return n
}

func (w *worker) sandboxPod(pod *corev1.Pod) sandbox.Pod {
	p := sandbox.Pod{
		UID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name,
		Hostname: hostname(pod), IP: w.ip, MemoryLimit: podLimit(pod, corev1.ResourceMemory).Value(),
	}
	if dial, from := w.agent.cfg.Dial, w.ip; dial != nil {
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, from, network, address)
		}
	}
	for _, c := range w.containers() {
		p.Ports = append(p.Ports, ports(c.spec(pod))...)
	}
	return p
}

// hostname is the pod's host name: at most 63 characters of it, not ending in
// a dash or a dot.
func hostname(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if name == "" {
		name = pod.Name
	}
	if len(name) > 63 {
		name = name[:63]
		for len(name) > 0 && (name[len(name)-1] == '-' || name[len(name)-1] == '.') {
			name = name[:len(name)-1]
		}
	}
	return name
}

func ports(c *corev1.Container) []sandbox.Port {
	var out []sandbox.Port
	for _, p := range c.Ports {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			out = append(out, sandbox.Port{Name: p.Name, Number: uint16(p.ContainerPort), Protocol: "TCP"})
		}
	}
	return out
}

// runContainers starts what may start now: init containers one after the
// other, then all others at once.
func (w *worker) runContainers(ctx context.Context, pod *corev1.Pod) time.Duration {
	var wait time.Duration
	for _, c := range w.debug {
		if c.shouldRestart(pod) {
			wait = earliest(wait, w.ensure(ctx, pod, c))
		}
	}
	for _, c := range w.init {
		if w.begun && !c.sidecar {
			continue // they are over for as long as this sandbox lives
		}
		if !c.done() {
			wait = earliest(wait, w.ensure(ctx, pod, c))
		}
		if c.sidecar && c.run != nil {
			w.keep(pod, c)
		}
		if !c.done() && !w.begun {
			return wait
		}
	}
	w.begun = true
	hooked := true // a container starts when the hooks of those before it are over
	for _, c := range w.main {
		if c.run != nil {
			w.keep(pod, c)
		} else if hooked && c.shouldRestart(pod) {
			wait = earliest(wait, w.ensure(ctx, pod, c))
		}
		hooked = hooked && !c.hooking(pod)
	}
	return wait
}

// keep looks after a running container: it ends it when a probe demands that
// or when the pod names another image now.
func (w *worker) keep(pod *corev1.Pod, c *container) {
	if c.stop != nil {
		return
	}
	if why := c.probes.verdict(); why != "" {
		text := fmt.Sprintf("Container %s failed %s probe, will be restarted", c.name, why)
		if why == failedPostStart {
			text = why
		}
		w.kill(pod, c, graceOf(pod, c.probes.grace()), text)
		return
	}
	if c.spec(pod).Image != c.imageRef {
		c.forced = true
		w.kill(pod, c, graceOf(pod, nil), fmt.Sprintf("Container %s definition changed, will be restarted", c.name))
	}
}

// ensure starts a container unless it has to wait, and returns for how long.
func (w *worker) ensure(ctx context.Context, pod *corev1.Pod, c *container) time.Duration {
	if c.run != nil || c.stop != nil {
		return 0
	}
	if wait := w.crashWait(pod, c); wait > 0 {
		return wait
	}
	img, wait, ok := w.fetch(ctx, pod, c)
	if !ok {
		return wait
	}
	if wait, ok := w.fetchVolumes(ctx, pod, c); !ok {
		return wait
	}
	w.timings.lapIn(stepImage, stepCompile, c.pull.attempt.compiled)
	spec, err := w.containerSpec(ctx, pod, c, img)
	w.timings.lap(stepConfig)
	if err != nil {
		if c.waiting == nil || c.waiting.Message != err.Error() {
			w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: %v", err)
		}
		c.waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: err.Error()}
		return 5 * time.Second
	}
	return w.start(ctx, pod, c, spec)
}

// crashWait returns how long the container's back-off lasts, and shows it.
func (w *worker) crashWait(pod *corev1.Pod, c *container) time.Duration {
	at := c.failedAt()
	if at.IsZero() {
		return 0
	}
	due := c.crash.until(at)
	wait := time.Until(due)
	if wait <= 0 {
		return 0
	}
	if c.announced.Equal(due) {
		return wait
	}
	c.announced = due
	text := fmt.Sprintf("back-off %v restarting failed container=%s pod=%s_%s(%s)", c.crash.delay, c.name, pod.Name, pod.Namespace, pod.UID)
	w.event(pod, c, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", c.name, pod.Name, pod.Namespace, pod.UID)
	if c.failed.IsZero() { // a start that failed keeps saying why
		c.waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: text}
	}
	return wait
}

// failedAt is when that happened which the next start is a retry of; zero when
// it is none.
func (c *container) failedAt() time.Time {
	if !c.failed.IsZero() {
		return c.failed
	}
	if c.terminated == nil || c.forced {
		return time.Time{}
	}
	return c.ended
}

func (a *Agent) podDir(uid types.UID) string {
	return filepath.Join(a.cfg.Dir, "pods", string(uid))
}

// collectDirs removes what pods have left that are gone.
func (a *Agent) collectDirs(wanted func(uid string) bool) error {
	entries, err := os.ReadDir(filepath.Join(a.cfg.Dir, "pods"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect pod directories: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !wanted(e.Name()) {
			errs = append(errs, volume.NewSet(filepath.Join(a.cfg.Dir, "pods", e.Name()), nil).Remove())
		}
	}
	return errors.Join(errs...)
}
