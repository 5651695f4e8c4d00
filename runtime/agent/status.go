package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// metaTime is a time with the precision that the API keeps, so that what was
// written compares equal to what was meant.
func metaTime(t, otherwise time.Time) metav1.Time {
	if t.IsZero() {
		t = otherwise
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// status computes what the API shall say of the pod: a function of its spec
// and of what the worker knows. Times of conditions are set by the publisher,
// which knows the conditions that are there.
func (w *worker) status(pod *corev1.Pod) corev1.PodStatus {
	if w.frozen {
		return *pod.Status.DeepCopy()
	}
	s := corev1.PodStatus{
		ObservedGeneration: pod.Generation,
		QOSClass:           pod.Status.QOSClass,
		NominatedNodeName:  pod.Status.NominatedNodeName,
	}
	start := metaTime(w.started, time.Time{})
	s.StartTime = &start
	for i, ip := range w.agent.hostIPs() {
		if i == 0 {
			s.HostIP = ip
		}
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if w.ip.IsValid() {
		s.PodIP = w.ip.String()
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	} else { // the one it had, which it will get back if it can
		s.PodIP, s.PodIPs = pod.Status.PodIP, pod.Status.PodIPs
	}
	creating := "ContainerCreating"
	if len(w.init) > 0 && !w.begun {
		creating = "PodInitializing"
	}
	for _, c := range w.init {
		s.InitContainerStatuses = append(s.InitContainerStatuses, c.status(pod, "PodInitializing"))
	}
	for _, c := range w.main {
		s.ContainerStatuses = append(s.ContainerStatuses, c.status(pod, creating))
	}
	for _, c := range w.debug {
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, c.status(pod, "ContainerCreating"))
	}
	s.Phase = w.phase(pod)
	if w.verdict != nil {
		s.Reason, s.Message = w.verdict.reason, w.verdict.message
		if !w.begunAny() {
			s.ContainerStatuses, s.InitContainerStatuses = nil, nil
		}
	}
	s.Conditions = w.conditions(pod, &s)
	return s
}

// begunAny reports whether any container of the pod has ever run.
func (w *worker) begunAny() bool {
	for _, c := range w.containers() {
		if c.run != nil || c.terminated != nil {
			return true
		}
	}
	return false
}

// status is a container's status; creating is the reason for which one waits
// that has nothing else to say.
func (c *container) status(pod *corev1.Pod, creating string) corev1.ContainerStatus {
	ready, started := c.run != nil && c.probes.isReady(), c.probes.isStarted()
	s := corev1.ContainerStatus{
		Name: c.name, RestartCount: c.restartCount(), ContainerID: c.id,
		Image: c.spec(pod).Image, ImageID: c.image.Digest, Ready: ready, Started: &started,
	}
	if c.run != nil {
		s.Image = c.imageRef
		if len(c.actual.Requests)+len(c.actual.Limits) > 0 {
			s.Resources = c.actual.DeepCopy()
		}
	}
	if len(c.allocated.Requests) > 0 {
		s.AllocatedResources = c.allocated.Requests.DeepCopy()
	}
	for _, m := range c.spec(pod).VolumeMounts {
		s.VolumeMounts = append(s.VolumeMounts, mountStatus(&m))
	}
	switch {
	case c.run != nil && c.probes.isHooked():
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metaTime(c.began, time.Time{})}
		s.LastTerminationState.Terminated = c.last
	case c.run != nil: // in its postStart hook
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: creating}
		s.LastTerminationState.Terminated = c.last
	case c.waiting != nil:
		s.State.Waiting = c.waiting
		s.LastTerminationState.Terminated = firstOf(c.terminated, c.last)
	case c.terminated != nil:
		s.State.Terminated = c.terminated
		s.LastTerminationState.Terminated = c.last
		if c.init && !c.sidecar && c.terminated.ExitCode == 0 {
			s.Ready = true
		}
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: creating}
		s.LastTerminationState.Terminated = c.last
	}
	return s
}

// mountStatus is what the API says of a mount. A read-only one is so all the
// way down here: nothing is ever mounted below it.
func mountStatus(m *corev1.VolumeMount) corev1.VolumeMountStatus {
	s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
	if !m.ReadOnly {
		return s
	}
	mode := corev1.RecursiveReadOnlyDisabled
	if asked := m.RecursiveReadOnly; asked != nil && *asked != corev1.RecursiveReadOnlyDisabled {
		mode = corev1.RecursiveReadOnlyEnabled
	}
	s.RecursiveReadOnly = &mode
	return s
}

// phase follows the table of pod phases
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase).
func (w *worker) phase(pod *corev1.Pod) corev1.PodPhase {
	if w.verdict != nil {
		return corev1.PodFailed
	}
	if w.over && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed) {
		return pod.Status.Phase // never left again
	}
	waiting, running, failed, done := 0, 0, 0, 0
	for _, c := range w.init {
		if c.run == nil && !c.sidecar && c.terminated != nil && c.terminated.ExitCode != 0 && !c.shouldRestart(pod) {
			return corev1.PodFailed
		}
	}
	for _, c := range w.main {
		switch {
		case c.run != nil && (c.probes.isHooked() || c.last != nil):
			running++
		case c.run != nil:
			waiting++ // for its postStart hook
		case c.terminated == nil:
			waiting++
		case c.shouldRestart(pod) && !w.down:
			running++ // it will be started again
		case c.terminated.ExitCode != 0:
			failed++
		default:
			done++
		}
	}
	switch {
	case w.down && waiting > 0:
		return corev1.PodFailed // shut down before it had ever run
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	case done > 0:
		return corev1.PodSucceeded
	}
	return corev1.PodPending
}

// conditions are those that a node sets, in kubelet's order and words.
func (w *worker) conditions(pod *corev1.Pod, s *corev1.PodStatus) []corev1.PodCondition {
	var unready, incomplete []string
	for i := range s.ContainerStatuses {
		if !s.ContainerStatuses[i].Ready {
			unready = append(unready, s.ContainerStatuses[i].Name)
		}
	}
	for i, c := range w.init {
		if !c.done() && !w.begun {
			incomplete = append(incomplete, c.name)
		} else if c.sidecar && i < len(s.InitContainerStatuses) && !s.InitContainerStatuses[i].Ready {
			unready = append(unready, c.name)
		}
	}
	sandboxUp := condition(corev1.PodReadyToStartContainers, w.box != nil && !w.closing, "", "")
	initialized := condition(corev1.PodInitialized, len(incomplete) == 0, "ContainersNotInitialized",
		fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(incomplete, " ")))
	contained := condition(corev1.ContainersReady, len(unready) == 0 && len(s.ContainerStatuses) > 0, "ContainersNotReady",
		fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " ")))
	switch s.Phase {
	case corev1.PodSucceeded:
		initialized = corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, Reason: "PodCompleted"}
		contained = condition(corev1.ContainersReady, false, "PodCompleted", "")
	case corev1.PodFailed:
		contained = condition(corev1.ContainersReady, false, "PodFailed", "")
	}
	ready := contained
	ready.Type = corev1.PodReady
	if ready.Status == corev1.ConditionTrue {
		if text := gatesNotReady(pod); text != "" {
			ready = condition(corev1.PodReady, false, "ReadinessGatesNotReady", text)
		}
	}
	list := []corev1.PodCondition{sandboxUp, initialized, ready, contained,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	for i := range list {
		list[i].ObservedGeneration = pod.Generation
	}
	own := append(w.resizeConditions(), w.disruption()...)
	if w.restarting {
		own = append(own, corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionTrue})
	}
	for _, c := range own {
		c.ObservedGeneration = pod.Generation
		list = append(list, c)
	}
	return list
}

// disruption is the condition of a pod that the node has ended for its own sake.
func (w *worker) disruption() []corev1.PodCondition {
	if !w.disrupted {
		return nil
	}
	return []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: corev1.PodReasonTerminationByKubelet, Message: w.verdict.message}}
}

func condition(kind corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
	if ok {
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
	}
	return corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

// gatesNotReady names the readiness gates that somebody else has not opened.
func gatesNotReady(pod *corev1.Pod) string {
	var texts []string
	for _, gate := range pod.Spec.ReadinessGates {
		i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
		if i < 0 {
			texts = append(texts, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		} else if got := pod.Status.Conditions[i].Status; got != corev1.ConditionTrue {
			texts = append(texts, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, got))
		}
	}
	return strings.Join(texts, ", ")
}

// settled reports whether the status says more than that things are on their
// way: only then is it worth a write within the quiet time.
func settled(s *corev1.PodStatus) bool {
	if s.Phase != corev1.PodPending {
		return true
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w == nil || w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
				return true
			}
		}
	}
	return false
}
