package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// isRoom says whether a reason is one that the end of a pod can lift.
func isRoom(text string) bool { return text == whyPods || strings.HasPrefix(text, whyInsufficient) }

func (s *Scheduler) nominate(r *request, node string) {
	s.denominate(r.pod.UID)
	s.nominated[r.pod.UID] = node
	s.snapshot.nominate(r, node)
}

func (s *Scheduler) denominate(uid types.UID) {
	if node, ok := s.nominated[uid]; ok {
		delete(s.nominated, uid)
		s.snapshot.forgetNomination(uid, node)
		s.happened |= podLeaves
		s.roomOn(node)
	}
}

// makeRoom nominates the pod to the node of the plan and ends the victims. Less
// important pods that were to come there look for another node.
func (s *Scheduler) makeRoom(ctx context.Context, it *item, p *plan) {
	pod := it.request.pod
	for uid, r := range p.node.nominated {
		if r.priority < it.request.priority {
			s.denominate(uid)
			other := r.pod
			s.write(ctx, func() { s.clearNomination(ctx, other) })
		}
	}
	s.nominate(it.request, p.node.name)
	for _, victim := range p.victims {
		v, node := victim.pod, p.node.name
		s.write(ctx, func() { s.evict(ctx, v, pod, node) })
	}
	if len(p.victims) == 0 { // what was in the way has gone meanwhile
		s.happened |= podLeaves
		s.roomOn(p.node.name)
	}
}

// evict ends a pod in favour of a more important one.
func (s *Scheduler) evict(ctx context.Context, victim, preemptor *corev1.Pod, node string) {
	if victim.DeletionTimestamp != nil {
		return
	}
	condition := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason:             corev1.PodReasonPreemptionByScheduler,
		Message:            fmt.Sprintf("%s: preempting to accommodate a higher priority pod", schedulerName(preemptor)),
		LastTransitionTime: metav1.NewTime(s.cfg.Clock())}
	err := s.patchStatus(ctx, victim, map[string]any{"conditions": []corev1.PodCondition{condition}})
	if err == nil {
		uid := victim.UID
		_, err = s.cfg.Client.Delete(ctx, api.Pods.KeyOf(victim), api.DeleteOptions{UID: &uid})
	}
	switch {
	case err == nil:
		s.cfg.Recorder.Event(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %v on node %v", preemptor.UID, node)
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // it is gone already
	case ctx.Err() == nil:
		s.cfg.Log.Warn("pod not preempted, the next attempt tries again", "pod", api.Pods.KeyOf(victim), "error", err)
	}
}

func (s *Scheduler) clearNomination(ctx context.Context, pod *corev1.Pod) {
	err := s.patchStatus(ctx, pod, map[string]any{"nominatedNodeName": nil})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		s.cfg.Log.Warn("nominatedNodeName not cleared", "pod", api.Pods.KeyOf(pod), "error", err)
	}
}

// patchStatus changes the status of this pod, and of no later one of its name.
func (s *Scheduler) patchStatus(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("render status: %w", err)
	}
	_, err = s.cfg.Client.Patch(ctx, api.Pods.KeyOf(pod),
		api.Patch{Type: types.StrategicMergePatchType, Data: patch}, api.PatchOptions{Subresource: "status"})
	return err
}
