package kinds

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var taintEffects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

func validateNode(n *corev1.Node) (errs field.ErrorList) {
	at := field.NewPath("spec")
	errs = append(errs, validateTaints(n.Spec.Taints, at.Child("taints"))...)
	for i, text := range n.Spec.PodCIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			errs = append(errs, field.Invalid(at.Child("podCIDRs").Index(i), text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
		}
	}
	if len(n.Spec.PodCIDRs) > 0 && n.Spec.PodCIDRs[0] != n.Spec.PodCIDR {
		errs = append(errs, field.Invalid(at.Child("podCIDR"), n.Spec.PodCIDR, "must match the first entry of podCIDRs"))
	}
	return append(errs, validateNodeStatus(n)...)
}

func validateTaints(taints []corev1.Taint, at *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, t := range taints {
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Index(i).Child("key"))...)
		for _, text := range validation.IsValidLabelValue(t.Value) {
			errs = append(errs, field.Invalid(at.Index(i).Child("value"), t.Value, text))
		}
		if t.Effect == "" {
			errs = append(errs, field.Required(at.Index(i).Child("effect"), ""))
		} else if !slices.Contains(taintEffects, t.Effect) {
			errs = append(errs, field.NotSupported(at.Index(i).Child("effect"), t.Effect, taintEffects))
		}
		key := t.Key + ":" + string(t.Effect)
		if seen[key] {
			errs = append(errs, field.Duplicate(at.Index(i), t))
		}
		seen[key] = true
	}
	return errs
}

func validateNodeStatus(n *corev1.Node) (errs field.ErrorList) {
	at := field.NewPath("status", "addresses")
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(at.Index(i), a))
		}
		seen[a] = true
	}
	errs = append(errs, validateQuantities(n.Status.Capacity, field.NewPath("status", "capacity"))...)
	return append(errs, validateQuantities(n.Status.Allocatable, field.NewPath("status", "allocatable"))...)
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateNode(n)
	at := field.NewPath("spec")
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(at.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(at.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	if !apiequality.Semantic.DeepEqual(n.Spec.DoNotUseExternalID, old.Spec.DoNotUseExternalID) {
		errs = append(errs, field.Forbidden(at, "node updates may only change labels, taints, or capacity"))
	}
	return errs
}
