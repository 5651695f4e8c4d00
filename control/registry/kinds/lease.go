package kinds

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Leases is the kind Lease of coordination.k8s.io/v1. The fields of coordinated
// elections, an alpha feature of Kubernetes, are not taken.
func Leases() Strategy[*coordinationv1.Lease] {
	return Strategy[*coordinationv1.Lease]{
		Resource: api.Leases,
		Create:   func(l *coordinationv1.Lease) { l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil },
		Update: func(l, old *coordinationv1.Lease) {
			if old.Spec.Strategy == nil {
				l.Spec.Strategy = nil
			}
			if old.Spec.PreferredHolder == nil {
				l.Spec.PreferredHolder = nil
			}
		},
		Validate:          validateLease,
		ValidateUpdate:    func(l, _ *coordinationv1.Lease) field.ErrorList { return validateLease(l) },
		CreateOnUpdate:    true,
		AnyFinalizer:      true,
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
	return errs
}
