package kinds

import (
	"maps"
	"strconv"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// ReplicationControllers is the kind ReplicationController.
func ReplicationControllers() Strategy[*corev1.ReplicationController] {
	return Strategy[*corev1.ReplicationController]{
		Resource: api.ReplicationControllers,
		Default:  defaultReplicationController,
		Create:   func(rc *corev1.ReplicationController) { rc.Status = corev1.ReplicationControllerStatus{} },
		Validate: validateReplicationController,
		WarnChange: func(rc, old *corev1.ReplicationController) []string {
			return templateWarnings(rc, old, old == nil, rc.Spec.Template, templatePath)
		},
		ValidateUpdate: func(rc, _ *corev1.ReplicationController) field.ErrorList { return validateReplicationController(rc) },
		Spec:           func(rc *corev1.ReplicationController) any { return &rc.Spec },
		Status:         func(rc *corev1.ReplicationController) any { return &rc.Status },
		ValidateStatus: validateReplicationControllerStatus,
		Generation:     true,
		Fields: map[string]func(*corev1.ReplicationController) string{
			"status.replicas": func(rc *corev1.ReplicationController) string { return strconv.Itoa(int(rc.Status.Replicas)) },
		},
		Scale: &Scale[*corev1.ReplicationController]{
			Replicas: func(rc *corev1.ReplicationController) *int32 { return rc.Spec.Replicas },
			Set:      func(rc *corev1.ReplicationController, n int32) { rc.Spec.Replicas = &n },
			Status: func(rc *corev1.ReplicationController) autoscalingv1.ScaleStatus {
				return autoscalingv1.ScaleStatus{Replicas: rc.Status.Replicas, Selector: labels.SelectorFromSet(rc.Spec.Selector).String()}
			},
		},
		Columns: columns("Name", "#Desired", "#Current", "#Ready", "Age", "+Containers", "+Images", "+Selector"),
		Row: func(rc *corev1.ReplicationController, now time.Time) []any {
			names, images := templateContainers(templateOf(rc))
			return []any{rc.Name, int64(deref(rc.Spec.Replicas)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas),
				age(rc.CreationTimestamp, now), names, images, labelsText(rc.Spec.Selector)}
		},
	}
}

// templateOf is the template of a controller, or an empty one.
func templateOf(rc *corev1.ReplicationController) *corev1.PodTemplateSpec {
	if rc.Spec.Template == nil {
		return &corev1.PodTemplateSpec{}
	}
	return rc.Spec.Template
}

// defaultReplicationController takes labels and selector from the template.
func defaultReplicationController(rc *corev1.ReplicationController) {
	if t := rc.Spec.Template; t != nil {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(t.Labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(t.Labels)
		}
		defaultTemplate(t)
	}
	orPtr(&rc.Spec.Replicas, 1)
}

func validateReplicationController(rc *corev1.ReplicationController) field.ErrorList {
	spec, at := &rc.Spec, field.NewPath("spec")
	errs := notNegative(spec.MinReadySeconds, at.Child("minReadySeconds"))
	if len(spec.Selector) == 0 {
		errs = append(errs, field.Required(at.Child("selector"), ""))
	}
	errs = append(errs, notNegative(deref(spec.Replicas), at.Child("replicas"))...)
	if spec.Template == nil {
		return append(errs, field.Required(at.Child("template"), ""))
	}
	selector := labels.Set(spec.Selector).AsSelectorPreValidated()
	if !selector.Empty() && !selector.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, mismatch(spec.Template, at.Child("template")))
	}
	return append(errs, validateRunningTemplate(spec.Template, at.Child("template"), "ReplicationController")...)
}

func validateReplicationControllerStatus(rc, _ *corev1.ReplicationController) field.ErrorList {
	s, at := &rc.Status, field.NewPath("status")
	errs := all(
		validateCounts(at, count{"replicas", s.Replicas}, count{"fullyLabeledReplicas", s.FullyLabeledReplicas},
			count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas}),
		notNegative(s.ObservedGeneration, at.Child("observedGeneration")),
	)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}
