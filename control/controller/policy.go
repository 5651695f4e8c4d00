package controller

import (
	"context"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// PolicyChecker looks for mistakes in the expressions of a policy.
type PolicyChecker interface {
	Check(*admissionregistrationv1.ValidatingAdmissionPolicy) ([]admissionregistrationv1.ExpressionWarning, error)
}

// newPolicyStatus writes into the status of ValidatingAdmissionPolicies what
// is to be said about their expressions, once for each generation
// (https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking).
func newPolicyStatus(cfg Config) runner {
	policies := cfg.Informers.For(api.ValidatingAdmissionPolicies)
	loop := cfg.loop("validatingadmissionpolicy-status", 1, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, _ := policies.Get(key)
		p, ok := obj.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		if !ok || p.Status.ObservedGeneration >= p.Generation || cfg.Policies == nil {
			return 0, nil
		}
		warnings, err := cfg.Policies.Check(p)
		if err != nil {
			return 0, fmt.Errorf("check %s: %w", key, err)
		}
		changed := p.DeepCopy()
		changed.Status.ObservedGeneration = p.Generation
		changed.Status.TypeChecking = &admissionregistrationv1.TypeChecking{ExpressionWarnings: warnings}
		_, err = cfg.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("write the status of %s: %w", key, err)
		}
		return 0, nil
	}))
	policies.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.ValidatingAdmissionPolicies.KeyOf(new))
		}
	})
	return loop
}
