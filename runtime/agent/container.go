package agent

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/agent/podlog"
	"wherry.dev/wherry/runtime/sandbox"
)

// container is one container of a pod over all its runs. It belongs to the
// pod's worker.
type container struct {
	name    string
	init    bool
	sidecar bool // an init container with restartPolicy Always
	debug   bool // an ephemeral container
	index   int  // in its list of the spec

	run      sandbox.Container // nil: does not run
	image    sandbox.Image     // of the last run
	imageRef string            // as the spec named it then
	id       string            // "wasm://<hex>", of the last run
	began    time.Time         // start of the last run
	ended    time.Time         // its end, more exact than terminated has it
	number   int32             // of the next run: log file and restart count
	writer   *podlog.Writer
	message  string // file of the termination message, "" when none was asked for
	stop     *stopping
	probes   *probes

	waiting    *corev1.ContainerStateWaiting
	terminated *corev1.ContainerStateTerminated // how the last run ended, nil before
	last       *corev1.ContainerStateTerminated // how the run before it ended
	allocated  corev1.ResourceRequirements      // what the node has set aside
	actual     corev1.ResourceRequirements      // what the running guest was given
	forced     bool                             // ended by us to be started again
	crash      backoff
	failed     time.Time // of the last start that did not succeed; zero: none since
	announced  time.Time // the back-off for which an event was written ends then
	pull       pull
	volumes    map[string]*pull // of images that it mounts, by volume
	again      bool             // runs again whatever its policy says
}

// stopping is an orderly stop in progress.
type stopping struct {
	grace time.Duration
	until time.Time
}

func (c *container) spec(pod *corev1.Pod) *corev1.Container {
	switch {
	case c.init:
		return &pod.Spec.InitContainers[c.index]
	case c.debug: // the API defines the two types as convertible
		return (*corev1.Container)(&pod.Spec.EphemeralContainers[c.index].EphemeralContainerCommon)
	}
	return &pod.Spec.Containers[c.index]
}

func (c *container) fieldPath() string {
	switch {
	case c.init:
		return "spec.initContainers{" + c.name + "}"
	case c.debug:
		return "spec.ephemeralContainers{" + c.name + "}"
	}
	return "spec.containers{" + c.name + "}"
}

// restartCount is the number of runs before the present or last one.
func (c *container) restartCount() int32 { return max(0, c.number-1) }

func newContainerID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (documented since Go 1.24)
	return "wasm://" + hex.EncodeToString(b[:])
}

// shouldRestart says whether a container that has ended runs again.
func (c *container) shouldRestart(pod *corev1.Pod) bool {
	if c.terminated == nil {
		return true
	}
	if c.debug {
		return false
	}
	if c.sidecar || c.again {
		return true
	}
	if restartRule(c.spec(pod), c.terminated.ExitCode) != "" {
		return true
	}
	policy := pod.Spec.RestartPolicy
	if own := c.spec(pod).RestartPolicy; own != nil {
		policy = corev1.RestartPolicy(*own)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return c.terminated.ExitCode != 0
	}
	// Always, which an init container reads as OnFailure.
	return !c.init || c.terminated.ExitCode != 0
}

// restartRule returns what the first of the container's restart rules that
// matches an exit code demands, "" when none does
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restart-rules).
func restartRule(spec *corev1.Container, code int32) corev1.ContainerRestartRuleAction {
	for i := range spec.RestartPolicyRules {
		rule := &spec.RestartPolicyRules[i]
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, code)
		if listed == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return rule.Action
		}
	}
	return ""
}

// done reports whether the next init container may start.
func (c *container) done() bool {
	if c.sidecar {
		return c.run != nil && c.stop == nil && c.probes.isStarted()
	}
	return c.run == nil && c.terminated != nil && c.terminated.ExitCode == 0
}

// load takes over what is known of the pod from its status and its logs when
// the agent meets it for the first time. Guests live in the agent's process,
// so whatever the status shows as running has ended with the last one.
func (w *worker) load(pod *corev1.Pod) {
	w.loaded = true
	now := time.Now()
	w.quietUntil = now.Add(quiet)
	w.started = now
	if pod.Status.StartTime != nil {
		w.started = pod.Status.StartTime.Time
	}
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		sidecar := spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
		w.init = append(w.init, &container{name: spec.Name, init: true, sidecar: sidecar, index: i})
	}
	for i := range pod.Spec.Containers {
		w.main = append(w.main, &container{name: pod.Spec.Containers[i].Name, index: i})
	}
	for _, c := range w.containers() {
		w.loadContainer(pod, c, now)
	}
	w.adopt(pod)
	if phase := pod.Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		w.over, w.admitted, w.frozen = true, true, true
		return
	}
	if pod.Status.StartTime != nil { // it was admitted before
		w.admitted = true
		w.agent.usage.reserve(w.sized(pod), w.agent.cfg.Capacity, true)
	}
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		for _, c := range w.main {
			w.begun = w.begun || c.terminated != nil
		}
	}
	w.forgetInit(pod)
}

// adopt takes in the ephemeral containers that the pod has got since.
func (w *worker) adopt(pod *corev1.Pod) {
	for i := len(w.debug); i < len(pod.Spec.EphemeralContainers); i++ {
		c := &container{name: pod.Spec.EphemeralContainers[i].Name, debug: true, index: i}
		w.loadContainer(pod, c, time.Now())
		w.debug = append(w.debug, c)
	}
}

func (w *worker) loadContainer(pod *corev1.Pod, c *container, now time.Time) {
	statuses := pod.Status.ContainerStatuses
	switch {
	case c.init:
		statuses = pod.Status.InitContainerStatuses
	case c.debug:
		statuses = pod.Status.EphemeralContainerStatuses
	}
	c.number = w.agent.logs.LastRun(logPod(pod), c.name) + 1
	c.loadSizes(pod, nil)
	for i := range statuses {
		s := &statuses[i]
		if s.Name != c.name {
			continue
		}
		c.loadSizes(pod, s)
		c.id = s.ContainerID
		c.last = s.LastTerminationState.Terminated
		switch {
		case s.State.Terminated != nil:
			c.terminated = s.State.Terminated
		case s.State.Running != nil:
			c.terminated = lost(s, now)
			c.forced = true // no back-off: it was not its own fault
		case c.last != nil:
			c.terminated, c.last = c.last, nil
		}
		if c.terminated != nil {
			c.ended = c.terminated.FinishedAt.Time
			c.number = max(c.number, s.RestartCount+1)
		}
	}
	if c.number > 0 && c.terminated == nil {
		// It had a run that the API never heard of.
		c.terminated = lost(&corev1.ContainerStatus{ContainerID: c.id}, now)
		c.forced = true
	}
}

// lost is the end of a container that ended with the process it lived in, in
// the words that kubelet has for it.
func lost(s *corev1.ContainerStatus, now time.Time) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: "ContainerStatusUnknown",
		Message:     "The container could not be located when the node agent started again",
		FinishedAt:  metaTime(now, now),
		ContainerID: s.ContainerID,
	}
	if s.State.Running != nil {
		t.StartedAt = s.State.Running.StartedAt
	}
	return t
}

// sized is the pod with what was set aside for its containers.
func (w *worker) sized(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	for _, c := range w.containers() {
		c.spec(pod).Resources = c.allocated
	}
	return pod
}

// forgetInit makes init containers run again when any container of the pod
// will: the sandbox is a new one. A pod that is never restarted keeps them.
func (w *worker) forgetInit(pod *corev1.Pod) {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return
	}
	again := false
	for _, c := range w.main {
		again = again || c.shouldRestart(pod)
	}
	if !again {
		return
	}
	for _, c := range w.init {
		c.last, c.terminated = firstOf(c.terminated, c.last), nil
	}
}

func firstOf[T any](list ...*T) *T {
	for _, v := range list {
		if v != nil {
			return v
		}
	}
	return nil
}

func logPod(pod *corev1.Pod) podlog.Pod {
	return podlog.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}
}
