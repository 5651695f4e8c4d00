package scheduler

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// podChanged follows one pod: nil before is new, nil after is gone.
func (s *Scheduler) podChanged(ctx context.Context, before, after *corev1.Pod) {
	if after == nil {
		s.forget(before.UID)
		return
	}
	switch {
	case ended(after):
		s.forget(after.UID)
	case after.Spec.NodeName != "":
		s.settle(before, after)
	case !s.mine(after) || after.DeletionTimestamp != nil:
		s.queue.remove(after.UID)
		s.denominate(after.UID)
		if it := s.binding[after.UID]; it != nil {
			it.request = newRequest(after) // if the binding fails, that was the last try
		}
	default:
		s.wants(ctx, before, after)
	}
}

// wants queues a pod without a node.
func (s *Scheduler) wants(ctx context.Context, before, after *corev1.Pod) {
	changed := before != nil && asksOtherwise(before, after)
	if it := s.binding[after.UID]; it != nil {
		if changed { // counts when the binding fails
			it.request = newRequest(after)
		}
		return
	}
	if len(after.Spec.SchedulingGates) > 0 {
		s.queue.remove(after.UID)
		if !conditionSays(after, corev1.PodReasonSchedulingGated, gated) {
			s.write(ctx, func() { s.setUnschedulable(ctx, after, corev1.PodReasonSchedulingGated, gated, nil) })
		}
		return
	}
	it := s.queue.put(after, changed)
	if s.cfg.Tracer != nil && it.since.IsZero() {
		it.since = time.Now()
	}
	if node := after.Status.NominatedNodeName; node != "" && s.nominated[after.UID] == "" && before == nil {
		s.nominate(it.request, node) // by a scheduler before this one
	}
}

// settle counts a pod on its node.
func (s *Scheduler) settle(before, after *corev1.Pod) {
	delete(s.binding, after.UID)
	s.queue.remove(after.UID)
	s.denominate(after.UID)
	on, known := s.snapshot.NodeOf(after.UID)
	known = known && on == after.Spec.NodeName
	if known && before != nil && !asksOtherwise(before, after) && (before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) {
		s.snapshot.confirm(after)
		return
	}
	s.snapshot.AddPod(after, after.Spec.NodeName)
	s.happened |= podComes
	if known {
		s.happened |= podLeaves // it may ask for less than before
		s.roomOn(after.Spec.NodeName)
	}
}

func (s *Scheduler) forget(uid types.UID) {
	delete(s.binding, uid)
	s.queue.remove(uid)
	s.denominate(uid)
	s.leaves(uid)
}

// leaves takes a pod off its node.
func (s *Scheduler) leaves(uid types.UID) {
	if on, placed := s.snapshot.NodeOf(uid); placed {
		s.snapshot.RemovePod(uid)
		s.happened |= podLeaves
		s.roomOn(on)
	}
}

// mine says whether one of the profiles is for the pod.
func (s *Scheduler) mine(pod *corev1.Pod) bool { return s.profiles[schedulerName(pod)] != nil }

func schedulerName(pod *corev1.Pod) string {
	if pod.Spec.SchedulerName == "" {
		return Name
	}
	return pod.Spec.SchedulerName
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// asksOtherwise says whether a change of a pod matters for where it may run.
// The generation counts changes of its spec, beside the node that a binding
// writes.
func asksOtherwise(before, after *corev1.Pod) bool {
	return before.Generation != after.Generation ||
		!maps.Equal(before.Labels, after.Labels) ||
		!maps.Equal(before.Annotations, after.Annotations) ||
		resized(before.Status.ContainerStatuses, after.Status.ContainerStatuses)
}

// resized says whether what containers have been given has changed.
func resized(before, after []corev1.ContainerStatus) bool {
	if len(before) != len(after) {
		return false // they have just been started
	}
	for i := range after {
		if a, b := before[i].Resources, after[i].Resources; a != nil && a != b && !equality.Semantic.DeepEqual(a, b) {
			return true
		}
	}
	return false
}
