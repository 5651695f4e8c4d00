package kinds

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Leases is the kind Lease of coordination.k8s.io/v1.
func Leases() Strategy[*coordinationv1.Lease] {
	return Strategy[*coordinationv1.Lease]{
		Resource:          api.Leases,
		Validate:          validateLease,
		ValidateUpdate:    func(l, _ *coordinationv1.Lease) field.ErrorList { return validateLease(l) },
		CreateOnUpdate:    true,
		ConditionalUpdate: true,
		Columns:           columns("Name", "Holder", "Age"),
		Row: func(l *coordinationv1.Lease, now time.Time) []any {
			holder := ""
			if l.Spec.HolderIdentity != nil {
				holder = *l.Spec.HolderIdentity
			}
			return []any{l.Name, holder, age(l.CreationTimestamp, now)}
		},
	}
}

func validateLease(l *coordinationv1.Lease) (errs field.ErrorList) {
	at := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(at.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	if s := l.Spec.Strategy; s != nil {
		if *s == "" {
			errs = append(errs, field.Required(at.Child("strategy"), "strategy must not be empty"))
		}
	}
	if l.Spec.PreferredHolder != nil && *l.Spec.PreferredHolder != "" && (l.Spec.Strategy == nil || *l.Spec.Strategy == "") {
		errs = append(errs, field.Forbidden(at.Child("preferredHolder"), "may only be specified when strategy is defined"))
	}
	return errs
}
