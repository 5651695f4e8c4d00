package controller

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// burstReplicas bounds what is created or deleted at the same time, and for most
// kinds what one reconcile does.
const burstReplicas = 500

// burst is how many pods one reconcile of a ReplicaSet with so many creates or
// deletes. Each counts all the pods that there are: with a fixed number, one
// more pod would cost the more the more there are.
func burst(have int) int { return max(burstReplicas, have/4) }

// replicaPlan is what brings a ReplicaSet to its number of replicas: one of
// the two is empty.
type replicaPlan struct {
	create int
	remove []*corev1.Pod
}

// planReplicas compares the active pods with spec.replicas. related is called
// only when there is something to choose.
func planReplicas(rs *appsv1.ReplicaSet, active []*corev1.Pod, related func() []*corev1.Pod, now time.Time) replicaPlan {
	want := int(replicasOf(rs))
	switch have := len(active); {
	case have < want:
		return replicaPlan{create: min(want-have, burst(have))}
	case have > want:
		return replicaPlan{remove: victims(active, related(), min(have-want, burst(have)), now)}
	}
	return replicaPlan{}
}

// replicasOf is spec.replicas with its default.
func replicasOf(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

// replicaSetStatus computes a status from the pods that a ReplicaSet owns and
// the writes that the informer has not shown yet, none of them in doubt.
// Counting those makes replicas an upper bound of the pods that there are, and
// availableReplicas a lower one of those that stay: a rollout relies on both.
// again is when the
// next pod becomes available by itself, 0 for never.
func replicaSetStatus(rs *appsv1.ReplicaSet, owned []*corev1.Pod, unseen open, now time.Time) (status appsv1.ReplicaSetStatus, again time.Duration) {
	status = *rs.Status.DeepCopy()
	status.Replicas, status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0, 0
	var terminating int32
	template := labels.Set(rs.Spec.Template.Labels).AsSelectorPreValidated()
	coming := make(map[string]bool, len(unseen.creations))
	for _, name := range unseen.creations {
		coming[name] = true
	}
	for _, p := range owned {
		if len(coming) > 0 {
			delete(coming, p.Name)
		}
		if !podActive(p) || unseen.deletions[p.UID] {
			if !podFinished(p) {
				terminating++
			}
			continue
		}
		status.Replicas++
		if template.Matches(labels.Set(p.Labels)) {
			status.FullyLabeledReplicas++
		}
		wait, ready := podAvailableIn(p, rs.Spec.MinReadySeconds, now)
		if !ready {
			continue
		}
		status.ReadyReplicas++
		if wait == 0 {
			status.AvailableReplicas++
		} else if again == 0 || wait < again {
			again = wait
		}
	}
	status.Replicas += int32(len(coming))
	status.FullyLabeledReplicas += int32(len(coming)) // they were made from the template
	status.TerminatingReplicas = &terminating
	status.ObservedGeneration = rs.Generation
	return status, again
}

// replicaFailure sets or removes the condition ReplicaFailure. One that is
// there stays as it is until a round succeeds.
func replicaFailure(conditions []appsv1.ReplicaSetCondition, create bool, failure error, now time.Time) []appsv1.ReplicaSetCondition {
	var kept []appsv1.ReplicaSetCondition
	present := false
	for _, c := range conditions {
		if c.Type != appsv1.ReplicaSetReplicaFailure {
			kept = append(kept, c)
		} else if failure != nil {
			kept, present = append(kept, c), true
		}
	}
	if failure == nil || present {
		return kept
	}
	reason := failedDelete
	if create {
		reason = failedCreate
	}
	return append(kept, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
		Reason: reason, Message: failure.Error(), LastTransitionTime: metav1.NewTime(now),
	})
}
