package kinds

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var taintEffects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

// validateNode checks a node. Errors about taints name the metadata, where they
// once were.
func validateNode(n *corev1.Node) (errs field.ErrorList) {
	errs = append(errs, validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))...)
	errs = append(errs, validateNodeAmounts(n)...)
	at := field.NewPath("spec", "podCIDRs")
	families := map[bool]int{}
	for i, text := range n.Spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), text, false, nil)...)
		families[strings.Contains(text, ":")]++
	}
	if families[true] > 1 || families[false] > 1 {
		errs = append(errs, field.Invalid(at, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
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
			errs = append(errs, duplicateTaint(t, at.Index(i)))
		}
		seen[key] = true
	}
	return errs
}

func duplicateTaint(t corev1.Taint, at *field.Path) *field.Error {
	err := field.Duplicate(at, hubValue{t})
	err.Detail = "taints must be unique by key and effect pair"
	return err
}

func validateNodeAmounts(n *corev1.Node) (errs field.ErrorList) {
	for _, list := range []struct {
		name    string
		amounts corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range slices.Sorted(maps.Keys(list.amounts)) {
			errs = append(errs, validateAmount(name, list.amounts[name], field.NewPath("status", list.name, string(name)))...)
		}
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateNodeAmounts(n)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), hubValue{a}))
		}
		seen[a] = true
	}
	at := field.NewPath("spec")
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(at.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	errs = append(errs, validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(at.Child("externalID"), "may not be updated"))
	}
	if was, is := old.Spec.ProviderID, n.Spec.ProviderID; was != "" && was != is {
		text := "field cannot be modified once set"
		if is == "" {
			text = "field cannot be cleared once set"
		}
		errs = append(errs, field.Invalid(at.Child("providerID"), nil, text))
	}
	return errs
}
