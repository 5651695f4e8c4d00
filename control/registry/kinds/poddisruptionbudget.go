package kinds

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// PodDisruptionBudgets is the kind PodDisruptionBudget of policy/v1.
func PodDisruptionBudgets() Strategy[*policyv1.PodDisruptionBudget] {
	return Strategy[*policyv1.PodDisruptionBudget]{
		Resource: api.PodDisruptionBudgets,
		Create:   func(b *policyv1.PodDisruptionBudget) { b.Status = policyv1.PodDisruptionBudgetStatus{} },
		Validate: validateBudget,
		ValidateUpdate: func(b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
			return validateBudget(b)
		},
		Spec:           func(b *policyv1.PodDisruptionBudget) any { return &b.Spec },
		Status:         func(b *policyv1.PodDisruptionBudget) any { return &b.Status },
		ValidateStatus: validateBudgetStatus,
		Generation:     true,
		Columns:        columns("Name", "Min Available", "Max Unavailable", "#Allowed Disruptions", "Age"),
		Row: func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
			return []any{b.Name, shareText(b.Spec.MinAvailable), shareText(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed),
				age(b.CreationTimestamp, now)}
		},
	}
}

func shareText(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}

func validateBudget(b *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
	spec, at := &b.Spec, field.NewPath("spec")
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(at, hubValue{spec}, "minAvailable and maxUnavailable cannot be both set"))
	}
	for _, share := range []struct {
		name  string
		value *intstr.IntOrString
	}{{"minAvailable", spec.MinAvailable}, {"maxUnavailable", spec.MaxUnavailable}} {
		if share.value != nil {
			errs = append(errs, validateShare(share.value, at.Child(share.name))...)
			errs = append(errs, atMostAll(share.value, at.Child(share.name))...)
		}
	}
	return append(errs, all(
		validateSelector(spec.Selector, at.Child("selector")),
		optionalOf(spec.UnhealthyPodEvictionPolicy, at.Child("unhealthyPodEvictionPolicy"), policyv1.AlwaysAllow, policyv1.IfHealthyBudget),
	)...)
}

func validateBudgetStatus(b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	s, at := &b.Status, field.NewPath("status")
	return all(
		metav1validation.ValidateConditions(s.Conditions, at.Child("conditions")),
		notNegative(s.DisruptionsAllowed, at.Child("disruptionsAllowed")),
		notNegative(s.CurrentHealthy, at.Child("currentHealthy")),
		notNegative(s.DesiredHealthy, at.Child("desiredHealthy")),
		notNegative(s.ExpectedPods, at.Child("expectedPods")),
	)
}
