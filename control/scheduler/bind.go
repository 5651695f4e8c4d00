package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// errGone: the pod does not exist any more.
var errGone = errors.New("pod is gone")

// gated is the message of a pod that has scheduling gates, as Kubernetes says it.
const gated = "Scheduling is blocked due to non-empty scheduling gates"

// How long to wait before asking again what became of a binding.
const (
	firstInquiry = 20 * time.Millisecond
	lastInquiry  = 5 * time.Second
)

// write runs f in a goroutine, not too many at a time.
func (s *Scheduler) write(ctx context.Context, f func()) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	s.writes.Go(func() {
		defer func() { <-s.slots }()
		f()
	})
}

// bind writes a binding. nil: the pod is on the node, or on another one, which
// the informer will tell. errGone: there is no such pod. Any other error: it
// has no node for certain.
func (s *Scheduler) bind(ctx context.Context, pod *corev1.Pod, node string) error {
	key := api.Pods.KeyOf(pod)
	_, err := s.cfg.Client.Create(ctx, key, &corev1.Binding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Binding"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, api.CreateOptions{Subresource: "binding"})
	if err != nil {
		err = s.inquire(ctx, key, pod.UID, node, err)
	}
	switch {
	case err == nil:
		s.cfg.Recorder.Event(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
	case errors.Is(err, errElsewhere):
		return nil
	case !errors.Is(err, errGone) && ctx.Err() == nil:
		s.cfg.Log.Warn("binding failed, trying again", "pod", key, "node", node, "error", err)
		s.cfg.Recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", "binding rejected: %v", err)
		s.setUnschedulable(ctx, pod, corev1.PodReasonSchedulerError, fmt.Sprintf("binding rejected: %v", err), nil)
	}
	return err
}

// errElsewhere: somebody else bound the pod to another node.
var errElsewhere = errors.New("pod is bound to another node")

// inquire finds out what became of a binding that was answered by an error:
// the answer may have got lost after it was done. Until that is known the pod
// keeps its place, so that the node is not given away twice.
func (s *Scheduler) inquire(ctx context.Context, key api.Key, uid types.UID, node string, cause error) error {
	for wait := firstInquiry; ; wait = min(2*wait, lastInquiry) {
		pod, err := api.Get[*corev1.Pod](ctx, s.cfg.Client, key)
		switch {
		case apierrors.IsNotFound(err), err == nil && pod.UID != uid:
			return errGone
		case err == nil && pod.Spec.NodeName == node:
			return nil
		case err == nil && pod.Spec.NodeName != "":
			return errElsewhere
		case err == nil:
			return fmt.Errorf("bind %s to %s: %w", key, node, cause)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// setUnschedulable writes the pod's PodScheduled condition, and the node where
// room is being made for it when nominate is not nil.
func (s *Scheduler) setUnschedulable(ctx context.Context, pod *corev1.Pod, reason, message string, nominate *string) {
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(s.cfg.Clock()), ObservedGeneration: pod.Generation,
	}
	if old := scheduledCondition(pod); old != nil && old.Status == condition.Status {
		condition.LastTransitionTime = old.LastTransitionTime
	}
	status := map[string]any{"conditions": []corev1.PodCondition{condition}}
	switch {
	case nominate == nil || *nominate == pod.Status.NominatedNodeName:
	case *nominate == "":
		status["nominatedNodeName"] = nil
	default:
		status["nominatedNodeName"] = *nominate
	}
	err := s.patchStatus(ctx, pod, status)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		s.cfg.Log.Warn("condition PodScheduled not written, the next attempt writes it", "pod", api.Pods.KeyOf(pod), "error", err)
	}
}

func scheduledCondition(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled {
			return c
		}
	}
	return nil
}

func conditionSays(pod *corev1.Pod, reason, message string) bool {
	c := scheduledCondition(pod)
	return c != nil && c.Status == corev1.ConditionFalse && c.Reason == reason && c.Message == message
}
