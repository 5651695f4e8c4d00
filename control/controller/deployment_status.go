package controller

import (
	"fmt"
	"math"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The reasons of a Deployment's conditions; kubectl rollout status knows them.
const (
	reasonAvailable        = "MinimumReplicasAvailable"
	reasonUnavailable      = "MinimumReplicasUnavailable"
	reasonUpdated          = "ReplicaSetUpdated"
	reasonCreated          = "NewReplicaSetCreated"
	reasonFound            = "FoundNewReplicaSet"
	reasonComplete         = "NewReplicaSetAvailable"
	reasonCreateError      = "ReplicaSetCreateError"
	reasonTimedOut         = "ProgressDeadlineExceeded"
	reasonPaused           = "DeploymentPaused"
	reasonResumed          = "DeploymentResumed"
	reasonScaled           = "ScalingReplicaSet"
	messageAvailable       = "Deployment has minimum availability."
	messageUnavailable     = "Deployment does not have minimum availability."
	progressDeadlineNever  = math.MaxInt32
	progressDeadlineBuffer = time.Second // timestamps have whole seconds
)

// hasDeadline says whether progress is watched at all.
func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != progressDeadlineNever
}

func conditionOf(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setCondition replaces the condition of c's type. One with the same status
// and reason is kept as it is; one with the same status keeps its transition.
func setCondition(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if now := conditionOf(s, c.Type); now != nil {
		if now.Status == c.Status && now.Reason == c.Reason {
			return
		}
		if now.Status == c.Status {
			c.LastTransitionTime = now.LastTransitionTime
		}
	}
	dropCondition(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

func dropCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	var kept []appsv1.DeploymentCondition
	for _, c := range s.Conditions {
		if c.Type != t {
			kept = append(kept, c)
		}
	}
	s.Conditions = kept
}

func newCondition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) appsv1.DeploymentCondition {
	at := metav1.NewTime(now)
	return appsv1.DeploymentCondition{Type: t, Status: status, Reason: reason, Message: message,
		LastUpdateTime: at, LastTransitionTime: at}
}

// countStatus is the status as far as it follows from the ReplicaSets alone:
// the numbers and the condition Available.
func countStatus(d *appsv1.Deployment, h history, now time.Time) appsv1.DeploymentStatus {
	status := *d.Status.DeepCopy()
	all := h.all()
	status.ObservedGeneration = d.Generation
	status.Replicas = statusReplicas(all)
	status.AvailableReplicas = availableReplicas(all)
	status.UnavailableReplicas = max(0, specReplicas(all)-status.AvailableReplicas)
	status.UpdatedReplicas, status.ReadyReplicas = 0, 0
	if h.current != nil {
		status.UpdatedReplicas = h.current.Status.Replicas
	}
	var terminating int32
	for _, rs := range all {
		status.ReadyReplicas += rs.Status.ReadyReplicas
		if t := rs.Status.TerminatingReplicas; t != nil {
			terminating += *t
		}
	}
	status.TerminatingReplicas = &terminating
	_, lack := margins(d)
	c := newCondition(appsv1.DeploymentAvailable, corev1.ConditionFalse, reasonUnavailable, messageUnavailable, now)
	if status.AvailableReplicas >= wanted(d)-lack {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonAvailable, messageAvailable
	}
	setCondition(&status, c)
	return status
}

// rolloutStatus adds Progressing and ReplicaFailure to the count. d carries
// the status that was written last.
func rolloutStatus(d *appsv1.Deployment, h history, now time.Time) appsv1.DeploymentStatus {
	status := countStatus(d, h, now)
	if hasDeadline(d) {
		judgeProgress(d, h, &status, now)
	} else {
		dropCondition(&status, appsv1.DeploymentProgressing)
	}
	if f := failureOf(h); f != nil {
		setCondition(&status, *f)
	} else {
		dropCondition(&status, appsv1.DeploymentReplicaFailure)
	}
	return status
}

func judgeProgress(d *appsv1.Deployment, h history, status *appsv1.DeploymentStatus, now time.Time) {
	present := conditionOf(&d.Status, appsv1.DeploymentProgressing)
	// A rollout that has ended is not judged again when pods come and go.
	if present != nil && present.Reason == reasonComplete && status.Replicas == status.UpdatedReplicas {
		return
	}
	subject := fmt.Sprintf("Deployment %q", d.Name)
	if h.current != nil {
		subject = subjectOf(h.current)
	}
	progress := func(s corev1.ConditionStatus, reason, message string) appsv1.DeploymentCondition {
		return newCondition(appsv1.DeploymentProgressing, s, reason, subject+message, now)
	}
	switch {
	case isComplete(d, status):
		setCondition(status, progress(corev1.ConditionTrue, reasonComplete, " has successfully progressed."))
	case progressed(d, status):
		c := progress(corev1.ConditionTrue, reasonUpdated, " is progressing.")
		// Replaced even when its reason stays: the update time is what the
		// deadline counts from.
		if present != nil && present.Status == corev1.ConditionTrue {
			c.LastTransitionTime = present.LastTransitionTime
		}
		dropCondition(status, appsv1.DeploymentProgressing)
		setCondition(status, c)
	case timedOut(d, status, now):
		setCondition(status, progress(corev1.ConditionFalse, reasonTimedOut, " has timed out progressing."))
	}
}

func subjectOf(rs *appsv1.ReplicaSet) string { return fmt.Sprintf("ReplicaSet %q", rs.Name) }

// speaksOf says that the condition Progressing is about the rollout of rs. One
// that tells how an earlier rollout ended is not: if a controller dies between
// the creation of a ReplicaSet and the status that says so, that is what the
// next one finds, and the new rollout's deadline would never run.
func speaksOf(c *appsv1.DeploymentCondition, rs *appsv1.ReplicaSet) bool {
	if c == nil {
		return false
	}
	ended := c.Reason == reasonComplete || c.Reason == reasonTimedOut
	return !ended || strings.HasPrefix(c.Message, subjectOf(rs))
}

// isComplete says that all replicas are of the current template and available.
func isComplete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas == wanted(d) && s.Replicas == wanted(d) &&
		s.AvailableReplicas == wanted(d) && s.ObservedGeneration >= d.Generation
}

// progressed says that something got better since the last status: more
// updated, ready or available replicas, or fewer old ones.
func progressed(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	was := &d.Status
	return s.UpdatedReplicas > was.UpdatedReplicas ||
		s.Replicas-s.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		s.ReadyReplicas > was.ReadyReplicas || s.AvailableReplicas > was.AvailableReplicas
}

func timedOut(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) bool {
	c := conditionOf(s, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonComplete {
		return false
	}
	return c.Reason == reasonTimedOut || now.After(deadlineOf(d, c))
}

func deadlineOf(d *appsv1.Deployment, c *appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
}

// deadlineIn says when to look again whether the rollout has got stuck, 0 for
// never.
func deadlineIn(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) time.Duration {
	c := conditionOf(s, appsv1.DeploymentProgressing)
	if !hasDeadline(d) || c == nil || d.Spec.Paused || isComplete(d, s) ||
		c.Reason == reasonTimedOut || c.Reason == reasonComplete {
		return 0
	}
	return max(0, deadlineOf(d, c).Sub(now)) + progressDeadlineBuffer
}

// failureOf is the ReplicaFailure of the current ReplicaSet, or else of any.
func failureOf(h history) *appsv1.DeploymentCondition {
	sets := h.all()
	if h.current != nil {
		sets = append([]*appsv1.ReplicaSet{h.current}, sets...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
				}
			}
		}
	}
	return nil
}

// notePause records in Progressing that a Deployment was paused or resumed, so
// that the deadline does not run on over the pause.
func notePause(d *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) {
	if !hasDeadline(d) {
		return
	}
	c := conditionOf(status, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonTimedOut {
		return
	}
	switch noted := c != nil && c.Reason == reasonPaused; {
	case d.Spec.Paused && !noted:
		setCondition(status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused", now))
	case !d.Spec.Paused && noted:
		setCondition(status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed", now))
	}
}
