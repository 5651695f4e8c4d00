package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeConditions are the conditions that an agent reports and that become
// unknown when it falls silent.
var nodeConditions = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// managedTaints are the taints that follow from a node's state, with what sets
// them (https://kubernetes.io/docs/reference/labels-annotations-taints/).
var managedTaints = []struct {
	key    string
	effect corev1.TaintEffect
	when   func(*corev1.Node) bool
}{
	{corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, func(n *corev1.Node) bool {
		status := conditionStatus(n, corev1.NodeReady)
		return status == corev1.ConditionFalse || status == ""
	}},
	{corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute, condition(corev1.NodeReady, corev1.ConditionFalse)},
	{corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule, condition(corev1.NodeReady, corev1.ConditionUnknown)},
	{corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute, condition(corev1.NodeReady, corev1.ConditionUnknown)},
	{corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule, condition(corev1.NodeMemoryPressure, corev1.ConditionTrue)},
	{corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule, condition(corev1.NodeDiskPressure, corev1.ConditionTrue)},
	{corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule, condition(corev1.NodePIDPressure, corev1.ConditionTrue)},
	{corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule, condition(corev1.NodeNetworkUnavailable, corev1.ConditionTrue)},
	{corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule, func(n *corev1.Node) bool { return n.Spec.Unschedulable }},
}

func condition(kind corev1.NodeConditionType, status corev1.ConditionStatus) func(*corev1.Node) bool {
	return func(n *corev1.Node) bool { return conditionStatus(n, kind) == status }
}

// conditionStatus is "" for a condition that nobody has reported.
func conditionStatus(n *corev1.Node, kind corev1.NodeConditionType) corev1.ConditionStatus {
	if c := nodeCondition(n, kind); c != nil {
		return c.Status
	}
	return ""
}

func nodeCondition(n *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == kind {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// outOfService says that somebody has declared the node to be off for good.
func outOfService(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// plannedTaints returns the taints that the node should have and whether they
// differ from those it has. Taints of others stay as they are.
func plannedTaints(n *corev1.Node, now time.Time, what evictions) (taints []corev1.Taint, changed bool) {
	taints = slices.Clone(n.Spec.Taints)
	for _, m := range managedTaints {
		same := func(t corev1.Taint) bool { return t.Key == m.key && t.Effect == m.effect }
		has, wanted := slices.ContainsFunc(taints, same), m.when(n)
		if m.effect == corev1.TaintEffectNoExecute && (what == evictNever || what == evictLater && !has) {
			wanted = false
		}
		switch {
		case wanted && !has:
			added := metav1.NewTime(now)
			taints = append(taints, corev1.Taint{Key: m.key, Effect: m.effect, TimeAdded: &added})
			changed = true
		case !wanted && has:
			taints = slices.DeleteFunc(taints, same)
			changed = true
		}
	}
	return taints, changed
}

// silentConditions are what becomes of the conditions of a node whose agent
// has fallen silent; empty when they say so already.
func silentConditions(n *corev1.Node, now time.Time) []corev1.NodeCondition {
	var out []corev1.NodeCondition
	for _, kind := range nodeConditions {
		c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.NewTime(now),
			LastHeartbeatTime: n.CreationTimestamp, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status."}
		if old := nodeCondition(n, kind); old != nil {
			if old.Status == corev1.ConditionUnknown {
				continue
			}
			c.LastHeartbeatTime = old.LastHeartbeatTime
			c.Reason, c.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
		}
		out = append(out, c)
	}
	return out
}

// evictionDue says when a pod has to leave a node with these taints: never,
// unless ok. Taints that the pod tolerates without limit do not count; of the
// limits the shortest does
// (https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions).
func evictionDue(pod *corev1.Pod, taints []corev1.Taint, now time.Time) (due time.Time, ok bool) {
	for i := range taints {
		taint := &taints[i]
		if taint.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		since := now
		if taint.TimeAdded != nil {
			since = taint.TimeAdded.Time
		}
		tolerated, limit := tolerance(pod, taint)
		if tolerated && limit == nil {
			continue
		}
		leave := since
		if tolerated {
			leave = since.Add(max(*limit, 0))
		}
		if !ok || leave.Before(due) {
			due, ok = leave, true
		}
	}
	return due, ok
}

// tolerance says whether the pod tolerates the taint and for how long at most;
// nil: for ever.
func tolerance(pod *corev1.Pod, taint *corev1.Taint) (tolerated bool, limit *time.Duration) {
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		if t.Operator != corev1.TolerationOpExists && t.Value != taint.Value {
			continue
		}
		tolerated = true
		if t.TolerationSeconds == nil {
			continue
		}
		d := time.Duration(*t.TolerationSeconds) * time.Second
		if limit == nil || d < *limit {
			limit = &d
		}
	}
	return tolerated, limit
}
