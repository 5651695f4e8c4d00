package kinds

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateDeployment(d *appsv1.Deployment) (errs field.ErrorList) {
	spec, at := &d.Spec, field.NewPath("spec")
	errs = append(errs, notNegative(deref(spec.Replicas), at.Child("replicas"))...)
	errs = append(errs, validateSelectorOf(spec.Selector, &spec.Template, at, "deployment", "ReplicaSet")...)
	errs = append(errs, validateStrategy(&spec.Strategy, at.Child("strategy"))...)
	errs = append(errs, notNegative(spec.MinReadySeconds, at.Child("minReadySeconds"))...)
	if spec.RevisionHistoryLimit != nil {
		errs = append(errs, notNegative(*spec.RevisionHistoryLimit, at.Child("revisionHistoryLimit"))...)
	}
	if deadline := spec.ProgressDeadlineSeconds; deadline != nil {
		errs = append(errs, notNegative(*deadline, at.Child("progressDeadlineSeconds"))...)
		if *deadline <= spec.MinReadySeconds {
			errs = append(errs, field.Invalid(at.Child("progressDeadlineSeconds"), *deadline, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

// validateSelectorOf checks the selector of a kind that runs pods for ever,
// that it selects its own template, and the template. The texts name kinds as
// Kubernetes does: "deployment" and "ReplicaSet".
func validateSelectorOf(s *metav1.LabelSelector, t *corev1.PodTemplateSpec, at *field.Path, kind, owner string) (errs field.ErrorList) {
	selectorAt, templateAt := at.Child("selector"), at.Child("template")
	if s == nil {
		errs = append(errs, field.Required(selectorAt, ""))
	} else {
		errs = append(errs, validateSelector(s, selectorAt)...)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(selectorAt, s, "empty selector is invalid for "+kind))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		text := "invalid label selector"
		if kind == "statefulset" {
			text = ""
		}
		errs = append(errs, field.Invalid(selectorAt, s, text))
	} else if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, mismatch(t, templateAt))
	}
	return append(errs, validateRunningTemplate(t, templateAt, owner)...)
}

// mismatch is the error about a template that its owner would not select.
func mismatch(t *corev1.PodTemplateSpec, at *field.Path) *field.Error {
	return field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")
}

// validateRunningTemplate checks the template of pods that never end.
func validateRunningTemplate(t *corev1.PodTemplateSpec, at *field.Path, owner string) field.ErrorList {
	errs := validateTemplate(t, at)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+owner+" is not Supported"))
	}
	return errs
}

// validateTemplate checks a pod template. Errors about its labels and
// annotations do not name its metadata.
func validateTemplate(t *corev1.PodTemplateSpec, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, metav1validation.ValidateLabels(t.Labels, at.Child("labels"))...)
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, at.Child("annotations"))...)
	errs = append(errs, validatePodAnnotations(t.Annotations, &t.Spec, at.Child("annotations"))...)
	v := podValidator{spec: &t.Spec}
	errs = append(errs, v.all(at.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(at.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// validateTemplateMeta wants the metadata of a template of something else than
// a pod to be labels and annotations.
func validateTemplateMeta(meta *metav1.ObjectMeta, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, apivalidation.ValidateAnnotations(meta.Annotations, at.Child("annotations"))...)
	errs = append(errs, metav1validation.ValidateLabels(meta.Labels, at.Child("labels"))...)
	value := reflect.ValueOf(*meta)
	for i := range value.NumField() {
		f := value.Type().Field(i)
		if f.Name != "Labels" && f.Name != "Annotations" && !value.Field(i).IsZero() {
			errs = append(errs, field.Forbidden(at.Child(strings.ToLower(f.Name[:1])+f.Name[1:]), "cannot be set"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, at *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(at.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return validateRollingUpdate(s.RollingUpdate, at.Child("rollingUpdate"))
	}
	return field.ErrorList{field.NotSupported(at, hubValue{s}, []appsv1.DeploymentStrategyType{
		appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
}

func validateRollingUpdate(u *appsv1.RollingUpdateDeployment, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateShare(u.MaxUnavailable, at.Child("maxUnavailable"))...)
	errs = append(errs, validateShare(u.MaxSurge, at.Child("maxSurge"))...)
	if len(errs) == 0 && shareOf(u.MaxUnavailable) == 0 && shareOf(u.MaxSurge) == 0 {
		errs = append(errs, field.Invalid(at.Child("maxUnavailable"), u.MaxUnavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, atMostAll(u.MaxUnavailable, at.Child("maxUnavailable"))...)
}

// validateShare checks a count or percentage.
func validateShare(v *intstr.IntOrString, at *field.Path) (errs field.ErrorList) {
	if v.Type == intstr.Int {
		return notNegative(int64(v.IntVal), at)
	}
	for _, text := range validation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(at, v, text))
	}
	return errs
}

// atMostAll refuses a percentage of more than everything.
func atMostAll(v *intstr.IntOrString, at *field.Path) field.ErrorList {
	if v.Type == intstr.String && shareOf(v) > 100 {
		return field.ErrorList{field.Invalid(at, v, "must not be greater than 100%")}
	}
	return nil
}

// shareOf is the number in a valid count or percentage.
func shareOf(v *intstr.IntOrString) int {
	if v.Type == intstr.Int {
		return int(v.IntVal)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil {
		return 0
	}
	return n
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateDeployment(d)
	return append(errs, apivalidation.ValidateImmutableField(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateDeploymentStatus(d, old *appsv1.Deployment) (errs field.ErrorList) {
	s, at := &d.Status, field.NewPath("status")
	errs = append(errs, notNegative(s.ObservedGeneration, at.Child("observedGeneration"))...)
	errs = append(errs, validateCounts(at, count{"replicas", s.Replicas}, count{"updatedReplicas", s.UpdatedReplicas},
		count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas})...)
	errs = append(errs, notNegative(s.UnavailableReplicas, at.Child("unavailableReplicas"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	if c := s.CollisionCount; c != nil {
		errs = append(errs, notNegative(*c, at.Child("collisionCount"))...)
	}
	if before := old.Status.CollisionCount; before != nil && (s.CollisionCount == nil || *s.CollisionCount < *before) {
		errs = append(errs, field.Invalid(at.Child("collisionCount"), deref(s.CollisionCount), "cannot be decremented"))
	}
	return errs
}

// count is a field of a status with its name.
type count struct {
	name string
	n    int32
}

// validateCounts wants no count to be negative, nor to exceed the first one.
func validateCounts(at *field.Path, counts ...count) (errs field.ErrorList) {
	for i, c := range counts {
		errs = append(errs, notNegative(c.n, at.Child(c.name))...)
		if i > 0 && c.n > counts[0].n {
			errs = append(errs, field.Invalid(at.Child(c.name), c.n, fmt.Sprintf("cannot be greater than status.%s", counts[0].name)))
		}
	}
	return errs
}

func validateReplicaSet(rs *appsv1.ReplicaSet) (errs field.ErrorList) {
	at := field.NewPath("spec")
	errs = append(errs, notNegative(deref(rs.Spec.Replicas), at.Child("replicas"))...)
	errs = append(errs, notNegative(rs.Spec.MinReadySeconds, at.Child("minReadySeconds"))...)
	return append(errs, validateSelectorOf(rs.Spec.Selector, &rs.Spec.Template, at, "deployment", "ReplicaSet")...)
}

func validateReplicaSetUpdate(rs, old *appsv1.ReplicaSet) field.ErrorList {
	errs := validateReplicaSet(rs)
	return append(errs, apivalidation.ValidateImmutableField(rs.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateReplicaSetStatus(s *appsv1.ReplicaSetStatus) (errs field.ErrorList) {
	at := field.NewPath("status")
	errs = append(errs, validateCounts(at, count{"replicas", s.Replicas}, count{"fullyLabeledReplicas", s.FullyLabeledReplicas},
		count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas})...)
	errs = append(errs, notNegative(s.ObservedGeneration, at.Child("observedGeneration"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}
