package kinds

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// StatefulSets is the kind StatefulSet of apps/v1.
func StatefulSets() Strategy[*appsv1.StatefulSet] {
	return Strategy[*appsv1.StatefulSet]{
		Resource:       api.StatefulSets,
		Name:           apivalidation.NameIsDNSLabel,
		Default:        defaultStatefulSet,
		Create:         func(s *appsv1.StatefulSet) { s.Status = appsv1.StatefulSetStatus{} },
		Validate:       validateStatefulSet,
		ValidateUpdate: validateStatefulSetUpdate,
		Spec:           func(s *appsv1.StatefulSet) any { return &s.Spec },
		Status:         func(s *appsv1.StatefulSet) any { return &s.Status },
		ValidateStatus: func(s, _ *appsv1.StatefulSet) field.ErrorList { return validateStatefulSetStatus(&s.Status) },
		Generation:     true,
		Scale: &Scale[*appsv1.StatefulSet]{
			Replicas: func(s *appsv1.StatefulSet) *int32 { return s.Spec.Replicas },
			Set:      func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
			Status: func(s *appsv1.StatefulSet) autoscalingv1.ScaleStatus {
				return autoscalingv1.ScaleStatus{Replicas: s.Status.Replicas, Selector: scaleSelector(s.Spec.Selector)}
			},
		},
		WarnChange: statefulSetWarnings,
		Columns:    columns("Name", "Ready", "Age", "+Containers", "+Images"),
		Row: func(s *appsv1.StatefulSet, now time.Time) []any {
			names, images := templateContainers(&s.Spec.Template)
			return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, deref(s.Spec.Replicas)), age(s.CreationTimestamp, now), names, images}
		},
	}
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	or(&spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		orPtr(&spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && spec.UpdateStrategy.RollingUpdate != nil {
		orPtr(&spec.UpdateStrategy.RollingUpdate.Partition, 0)
		orPtr(&spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	orPtr(&spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	or(&spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	or(&spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	orPtr(&spec.Replicas, 1)
	orPtr(&spec.RevisionHistoryLimit, 10)
	defaultTemplate(&spec.Template)
	for i := range spec.VolumeClaimTemplates {
		claim := &spec.VolumeClaimTemplates[i]
		claim.SetGroupVersionKind(api.PersistentVolumeClaims.GVK())
		or(&claim.Status.Phase, corev1.ClaimPending)
		defaultClaim(&claim.Spec)
	}
}

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList { return checkStatefulSet(s, true) }

// checkStatefulSet checks a set; fresh says that what cannot change is checked,
// too.
func checkStatefulSet(s *appsv1.StatefulSet, fresh bool) (errs field.ErrorList) {
	spec, at := &s.Spec, field.NewPath("spec")
	switch spec.PodManagementPolicy {
	case "":
		errs = append(errs, field.Required(at.Child("podManagementPolicy"), ""))
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(at.Child("podManagementPolicy"), spec.PodManagementPolicy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulSetStrategy(&spec.UpdateStrategy, at.Child("updateStrategy"))...)
	if keep, at := spec.PersistentVolumeClaimRetentionPolicy, at.Child("persistentVolumeClaimRetentionPolicy"); keep != nil {
		known := []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
			appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
		errs = append(errs, knownOf(keep.WhenDeleted, at.Child("whenDeleted"), known...)...)
		errs = append(errs, knownOf(keep.WhenScaled, at.Child("whenScaled"), known...)...)
	}
	for i := range spec.VolumeClaimTemplates {
		if !fresh {
			break
		}
		errs = append(errs, validateClaim(&spec.VolumeClaimTemplates[i].Spec, at.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
	}
	errs = append(errs, notNegative(deref(spec.Replicas), at.Child("replicas"))...)
	errs = append(errs, notNegative(spec.MinReadySeconds, at.Child("minReadySeconds"))...)
	if spec.Ordinals != nil {
		errs = append(errs, notNegative(spec.Ordinals.Start, at.Child("ordinals.start"))...)
	}
	if spec.ServiceName != "" && fresh {
		errs = append(errs, invalid(at.Child("serviceName"), spec.ServiceName, validation.IsDNS1123Label(spec.ServiceName))...)
	}
	return append(errs, validateSelectorOf(spec.Selector, withClaims(spec), at, "statefulset", "StatefulSet")...)
}

// withClaims is the template as the controller completes it: each claim
// template makes a volume, in place of one of the same name.
func withClaims(spec *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	if len(spec.VolumeClaimTemplates) == 0 {
		return &spec.Template
	}
	t := spec.Template.DeepCopy()
	for _, claim := range spec.VolumeClaimTemplates {
		t.Spec.Volumes = slices.DeleteFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == claim.Name })
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}}})
	}
	return t
}

func validateStatefulSetStrategy(s *appsv1.StatefulSetUpdateStrategy, at *field.Path) field.ErrorList {
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(at, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(at.Child("rollingUpdate"), hubValue{s.RollingUpdate},
				fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
	default:
		return field.ErrorList{field.Invalid(at, hubValue{s}, fmt.Sprintf("must be '%s' or '%s'",
			appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
	if s.RollingUpdate == nil {
		return nil
	}
	at = at.Child("rollingUpdate")
	errs := optionalCount(s.RollingUpdate.Partition, at.Child("partition"))
	if max := s.RollingUpdate.MaxUnavailable; max != nil {
		at := at.Child("maxUnavailable")
		errs = append(errs, validateShare(max, at)...)
		if shareOf(max) == 0 {
			errs = append(errs, field.Invalid(at, *max, "cannot be 0"))
		}
		errs = append(errs, atMostAll(max, at)...)
	}
	return errs
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	now, before, at := &s.Spec, &old.Spec, field.NewPath("spec")
	return all(checkStatefulSet(s, false), unchanged(now.Selector, before.Selector, at.Child("selector")),
		unchanged(now.VolumeClaimTemplates, before.VolumeClaimTemplates, at.Child("volumeClaimTemplates")),
		unchanged(now.ServiceName, before.ServiceName, at.Child("serviceName")),
		unchanged(now.PodManagementPolicy, before.PodManagementPolicy, at.Child("podManagementPolicy")))
}

func validateStatefulSetStatus(s *appsv1.StatefulSetStatus) field.ErrorList {
	at := field.NewPath("status")
	errs := all(
		validateCounts(at, count{"replicas", s.Replicas}, count{"readyReplicas", s.ReadyReplicas}, count{"currentReplicas", s.CurrentReplicas},
			count{"updatedReplicas", s.UpdatedReplicas}, count{"availableReplicas", s.AvailableReplicas}),
		notNegative(s.ObservedGeneration, at.Child("observedGeneration")),
		optionalCount(s.CollisionCount, at.Child("collisionCount")),
	)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	return errs
}
