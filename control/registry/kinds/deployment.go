package kinds

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Deployments is the kind Deployment of apps/v1.
func Deployments() Strategy[*appsv1.Deployment] {
	return Strategy[*appsv1.Deployment]{
		Resource:       api.Deployments,
		Default:        defaultDeployment,
		Create:         func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} },
		Validate:       validateDeployment,
		ValidateUpdate: validateDeploymentUpdate,
		Spec:           func(d *appsv1.Deployment) any { return &d.Spec },
		Status:         func(d *appsv1.Deployment) any { return &d.Status },
		UpdateStatus:   func(d, old *appsv1.Deployment) { d.Labels = old.Labels },
		ResetStatus:    []string{"metadata.labels"},
		ValidateStatus: validateDeploymentStatus,
		Generation:     true,
		// Annotations are copied to replica sets, so they count as well.
		Changed: func(d, old *appsv1.Deployment) bool {
			return !apiequality.Semantic.DeepEqual(d.Annotations, old.Annotations)
		},
		Scale: &Scale[*appsv1.Deployment]{
			Replicas: func(d *appsv1.Deployment) *int32 { return d.Spec.Replicas },
			Set:      func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
			Status: func(d *appsv1.Deployment) autoscalingv1.ScaleStatus {
				return autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: scaleSelector(d.Spec.Selector)}
			},
		},
		WarnChange: func(d, old *appsv1.Deployment) []string {
			return templateWarnings(d, old, old == nil, &d.Spec.Template, templatePath)
		},
		Columns: columns("Name", "Ready", "Up-to-date", "Available", "Age", "+Containers", "+Images",
			"+Selector"),
		Row: func(d *appsv1.Deployment, now time.Time) []any {
			names, images := templateContainers(&d.Spec.Template)
			return []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, deref(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas),
				int64(d.Status.AvailableReplicas), age(d.CreationTimestamp, now), names, images, selectorText(d.Spec.Selector)}
		},
	}
}

// templateContainers renders the names and images of a template's containers.
func templateContainers(t *corev1.PodTemplateSpec) (names, images string) {
	var n, i []string
	for _, c := range t.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func defaultDeployment(d *appsv1.Deployment) {
	spec := &d.Spec
	orPtr(&spec.Replicas, 1)
	orPtr(&spec.RevisionHistoryLimit, 10)
	orPtr(&spec.ProgressDeadlineSeconds, 600)
	or(&spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orPtr(&spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		quarter := intstr.FromString("25%")
		orPtr(&spec.Strategy.RollingUpdate.MaxUnavailable, quarter)
		orPtr(&spec.Strategy.RollingUpdate.MaxSurge, quarter)
	}
	defaultTemplate(&spec.Template)
}

// ReplicaSets is the kind ReplicaSet of apps/v1.
func ReplicaSets() Strategy[*appsv1.ReplicaSet] {
	return Strategy[*appsv1.ReplicaSet]{
		Resource: api.ReplicaSets,
		Default: func(rs *appsv1.ReplicaSet) {
			orPtr(&rs.Spec.Replicas, 1)
			defaultTemplate(&rs.Spec.Template)
		},
		Create:         func(rs *appsv1.ReplicaSet) { rs.Status = appsv1.ReplicaSetStatus{} },
		Validate:       validateReplicaSet,
		ValidateUpdate: validateReplicaSetUpdate,
		Spec:           func(rs *appsv1.ReplicaSet) any { return &rs.Spec },
		Status:         func(rs *appsv1.ReplicaSet) any { return &rs.Status },
		ValidateStatus: func(rs, _ *appsv1.ReplicaSet) field.ErrorList { return validateReplicaSetStatus(&rs.Status) },
		Generation:     true,
		Scale: &Scale[*appsv1.ReplicaSet]{
			Replicas: func(rs *appsv1.ReplicaSet) *int32 { return rs.Spec.Replicas },
			Set:      func(rs *appsv1.ReplicaSet, n int32) { rs.Spec.Replicas = &n },
			Status: func(rs *appsv1.ReplicaSet) autoscalingv1.ScaleStatus {
				return autoscalingv1.ScaleStatus{Replicas: rs.Status.Replicas, Selector: scaleSelector(rs.Spec.Selector)}
			},
		},
		WarnChange: func(rs, old *appsv1.ReplicaSet) []string {
			return templateWarnings(rs, old, old == nil, &rs.Spec.Template, templatePath)
		},
		Columns: columns("Name", "#Desired", "#Current", "#Ready", "Age", "+Containers", "+Images", "+Selector"),
		Row: func(rs *appsv1.ReplicaSet, now time.Time) []any {
			names, images := templateContainers(&rs.Spec.Template)
			return []any{rs.Name, int64(deref(rs.Spec.Replicas)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas),
				age(rs.CreationTimestamp, now), names, images, selectorText(rs.Spec.Selector)}
		},
	}
}

// scaleSelector renders a selector as autoscalers parse it.
func scaleSelector(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return selector.String()
}
