package controller

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// newReplicationControllers is the engine of ReplicaSets for the kind before
// them.
func newReplicationControllers(cfg Config) runner {
	return newReplicas(cfg, replicaKind{
		resource: api.ReplicationControllers, loop: "replicationcontroller", component: "replication-controller",
		view: func(obj api.Object) (*appsv1.ReplicaSet, error) {
			rc, ok := obj.(*corev1.ReplicationController)
			if !ok {
				return nil, fmt.Errorf("%s is a %T", api.ReplicationControllers.KeyOf(obj), obj)
			}
			return viewReplicationController(rc), nil
		},
		withStatus: func(obj api.Object, status appsv1.ReplicaSetStatus) api.Object {
			rc := obj.DeepCopyObject().(*corev1.ReplicationController)
			rc.Status = replicationControllerStatus(status)
			return rc
		},
	})
}

// viewReplicationController shows a ReplicationController as a ReplicaSet. It
// shares what it refers to.
func viewReplicationController(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{TypeMeta: rc.TypeMeta, ObjectMeta: rc.ObjectMeta}
	rs.Spec.Replicas, rs.Spec.MinReadySeconds = rc.Spec.Replicas, rc.Spec.MinReadySeconds
	rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	s := &rc.Status
	rs.Status = appsv1.ReplicaSetStatus{
		Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas, ReadyReplicas: s.ReadyReplicas,
		AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}
	for _, c := range s.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

// replicationControllerStatus is the way back. The older kind has no number of
// terminating pods.
func replicationControllerStatus(s appsv1.ReplicaSetStatus) corev1.ReplicationControllerStatus {
	out := corev1.ReplicationControllerStatus{
		Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas, ReadyReplicas: s.ReadyReplicas,
		AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}
	for _, c := range s.Conditions {
		out.Conditions = append(out.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return out
}
