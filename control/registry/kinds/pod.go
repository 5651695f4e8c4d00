package kinds

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"wherry.dev/wherry/control/api"
)

// Pods is the kind Pod, without what needs the state of the cluster: admission
// and binding are added by the engine.
func Pods() Strategy[*corev1.Pod] {
	return Strategy[*corev1.Pod]{
		Resource: api.Pods,
		Default:  defaultPod,
		Create:   createPod,
		Update: func(p, _ *corev1.Pod) { // as admission does at every write
			tolerate(&p.Spec, corev1.TaintNodeNotReady)
			tolerate(&p.Spec, corev1.TaintNodeUnreachable)
		},
		Validate:       validatePod,
		ValidateUpdate: validatePodUpdate,
		WarnChange: func(p, old *corev1.Pod) []string {
			if old != nil { // people seldom change pods
				return nil
			}
			return append(nameWarning(p.Name, "the Pod's hostname"), podWarnings(&p.Spec, &p.ObjectMeta, nil)...)
		},
		Spec:           func(p *corev1.Pod) any { return &p.Spec },
		Status:         func(p *corev1.Pod) any { return &p.Status },
		UpdateStatus:   func(p, old *corev1.Pod) { p.OwnerReferences = old.OwnerReferences },
		ResetStatus:    []string{"metadata.deletionTimestamp", "metadata.ownerReferences"},
		ValidateStatus: validatePodStatus,
		Generation:     true,
		Fields: map[string]func(*corev1.Pod) string{
			"spec.nodeName":            func(p *corev1.Pod) string { return p.Spec.NodeName },
			"spec.restartPolicy":       func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
			"spec.schedulerName":       func(p *corev1.Pod) string { return p.Spec.SchedulerName },
			"spec.serviceAccountName":  func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
			"spec.hostNetwork":         func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) },
			"status.phase":             func(p *corev1.Pod) string { return string(p.Status.Phase) },
			"status.podIP":             func(p *corev1.Pod) string { return p.Status.PodIP },
			"status.podIPs":            func(p *corev1.Pod) string { return p.Status.PodIP },
			"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
		},
		Grace:        podGrace,
		Subresources: map[string]Subresource{"ephemeralcontainers": ephemeralContainers(), "resize": resize()},
		Columns: columns("Name", "Ready", "Status", "Restarts", "Age",
			"+IP", "+Node", "+Nominated Node", "+Readiness Gates"),
		Row: podRow,
		Ended: func(p *corev1.Pod) (reason, message string) {
			switch p.Status.Phase {
			case corev1.PodSucceeded:
				return string(corev1.PodSucceeded), "The pod has completed successfully."
			case corev1.PodFailed:
				return string(corev1.PodFailed), "The pod failed."
			}
			return "", ""
		},
	}
}

// podGrace is the grace period of a pod: at once when it never ran or has
// ended, else what was asked for, else its own.
func podGrace(pod *corev1.Pod, asked *int64) int64 {
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return 0
	}
	period := defaultGraceSeconds
	switch {
	case asked != nil:
		period = *asked
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if period < 0 {
		return 1
	}
	return period
}

func podRow(pod *corev1.Pod, now time.Time) []any {
	gates := "<none>"
	if n := len(pod.Spec.ReadinessGates); n > 0 {
		met := 0
		for _, gate := range pod.Spec.ReadinessGates {
			for _, c := range pod.Status.Conditions {
				if c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue {
					met++
				}
			}
		}
		gates = fmt.Sprintf("%d/%d", met, n)
	}
	s := summarize(pod)
	restarts := strconv.Itoa(s.restarts)
	if s.restarts > 0 && !s.lastRestart.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts, duration.HumanDuration(now.Sub(s.lastRestart.Time)))
	}
	return []any{pod.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, restarts, age(pod.CreationTimestamp, now),
		none(pod.Status.PodIP), none(pod.Spec.NodeName), none(pod.Status.NominatedNodeName), gates}
}
