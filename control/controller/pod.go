package controller

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// deletionCost is the annotation by which a user says which pods to give up
// first: the lower, the sooner; 0 when absent.
const deletionCost = corev1.PodDeletionCost

// podActive says that a pod counts as a replica: it is neither finished nor
// being deleted.
func podActive(p *corev1.Pod) bool {
	return !podFinished(p) && p.DeletionTimestamp == nil
}

func podFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// podReadyCondition returns a pod's Ready condition, nil when it has none.
func podReadyCondition(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func isReady(p *corev1.Pod) bool {
	c := podReadyCondition(p)
	return c != nil && c.Status == corev1.ConditionTrue
}

// podAvailableIn says how long it takes, without further changes, until a pod
// has been ready for minReady seconds: 0 means that it is available, and ok is
// false for a pod that is not ready.
func podAvailableIn(p *corev1.Pod, minReady int32, now time.Time) (wait time.Duration, ok bool) {
	c := podReadyCondition(p)
	if c == nil || c.Status != corev1.ConditionTrue {
		return 0, false
	}
	if minReady == 0 {
		return 0, true
	}
	if c.LastTransitionTime.IsZero() {
		return time.Duration(minReady) * time.Second, true
	}
	return max(0, c.LastTransitionTime.Add(time.Duration(minReady)*time.Second).Sub(now)), true
}

// victims chooses n pods to delete, those whose loss hurts least first. related
// are the active pods of the same workload (of all its ReplicaSets): of two
// pods the one that shares its node with more of them goes first.
func victims(pods, related []*corev1.Pod, n int, now time.Time) []*corev1.Pod {
	if n >= len(pods) {
		return pods
	}
	onNode := map[string]int{}
	for _, p := range related {
		if podActive(p) {
			onNode[p.Spec.NodeName]++
		}
	}
	ranked := slices.Clone(pods)
	slices.SortFunc(ranked, func(a, b *corev1.Pod) int { return comparePods(a, b, onNode, now) })
	return ranked[:n]
}

// comparePods orders pods for scaling down, negative when a goes before b. The
// steps are those of Kubernetes' ActivePodsWithRanks.
func comparePods(a, b *corev1.Pod, onNode map[string]int, now time.Time) int {
	if (a.Spec.NodeName == "") != (b.Spec.NodeName == "") {
		return first(a.Spec.NodeName == "")
	}
	if x, y := phaseRank(a), phaseRank(b); x != y {
		return x - y
	}
	if isReady(a) != isReady(b) {
		return first(!isReady(a))
	}
	if x, y := costOf(a), costOf(b); x != y {
		return first(x < y)
	}
	if x, y := onNode[a.Spec.NodeName], onNode[b.Spec.NodeName]; x != y {
		return first(x > y)
	}
	// Ages are compared by their magnitude only, so that a scale-down does not
	// always take the same generation of pods; the uid decides at random then.
	if isReady(a) && isReady(b) {
		x, y := podReadyCondition(a).LastTransitionTime, podReadyCondition(b).LastTransitionTime
		if !x.Equal(&y) {
			return byAge(x.Time, y.Time, a, b, now)
		}
	}
	if x, y := restartsOf(a), restartsOf(b); x != y {
		return first(x > y)
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return byAge(a.CreationTimestamp.Time, b.CreationTimestamp.Time, a, b, now)
	}
	return strings.Compare(string(a.UID), string(b.UID))
}

func first(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	default:
		return 0
	}
}

func costOf(p *corev1.Pod) int32 {
	// The API refuses values that do not parse; what is there anyway is 0.
	cost, err := strconv.ParseInt(p.Annotations[deletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(cost)
}

// byAge puts the younger of two times first, if they differ in magnitude.
func byAge(x, y time.Time, a, b *corev1.Pod, now time.Time) int {
	if rx, ry := ageRank(x, now), ageRank(y, now); rx != ry {
		return rx - ry
	}
	return strings.Compare(string(a.UID), string(b.UID))
}

func ageRank(t, now time.Time) int {
	if t.IsZero() || !now.After(t) {
		return -1
	}
	return int(math.Log2(float64(now.Sub(t))))
}

func restartsOf(p *corev1.Pod) int32 {
	var most int32
	for _, s := range p.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	return most
}
