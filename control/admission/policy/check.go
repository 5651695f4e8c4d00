package policy

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
)

// Check refuses policies with expressions that do not compile. What else can be
// wrong with them is checked with their kinds.
func Check(env *expr.Env) func(context.Context, *api.AdmissionRequest) error {
	return func(_ context.Context, r *api.AdmissionRequest) error {
		if !r.Is(api.ValidatingAdmissionPolicies, api.Create, api.Update) && !r.Is(api.MutatingAdmissionPolicies, api.Create, api.Update) {
			return nil
		}
		var errs field.ErrorList
		var err error
		switch p := r.Object.(type) {
		case *admissionregistrationv1.ValidatingAdmissionPolicy:
			errs, err = checkValidating(env, &p.Spec, textsOf(r.Old))
		case *admissionregistrationv1.MutatingAdmissionPolicy:
			errs, err = checkMutating(env, &p.Spec, textsOf(r.Old))
		}
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		if len(errs) > 0 {
			return apierrors.NewInvalid(r.Resource.GVK().GroupKind(), r.Key.Name, errs)
		}
		return nil
	}
}

// textsOf are the expressions of a stored policy; nil has none.
func textsOf(old api.Object) map[string]bool {
	known := map[string]bool{}
	shared := func(variables []admissionregistrationv1.Variable, conditions []admissionregistrationv1.MatchCondition) {
		for _, v := range variables {
			known[v.Expression] = true
		}
		for _, c := range conditions {
			known[c.Expression] = true
		}
	}
	switch p := old.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		shared(p.Spec.Variables, p.Spec.MatchConditions)
		for _, v := range p.Spec.Validations {
			known[v.Expression], known[v.MessageExpression] = true, true
		}
		for _, a := range p.Spec.AuditAnnotations {
			known[a.ValueExpression] = true
		}
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		shared(p.Spec.Variables, p.Spec.MatchConditions)
		for i := range p.Spec.Mutations {
			known[mutation(&p.Spec.Mutations[i]).Text] = true
		}
	}
	return known
}

// checkShared checks what both kinds of policies have, variables first.
func checkShared(env *expr.Env, params bool, known map[string]bool, variables []admissionregistrationv1.Variable,
	conditions []admissionregistrationv1.MatchCondition) (*expr.Checker, field.ErrorList, error) {
	at := field.NewPath("spec")
	c, err := env.Checker(params, known)
	if err != nil {
		return nil, nil, err
	}
	errs := c.Variables(variables, at.Child("variables"))
	for i := range conditions {
		errs = append(errs, c.Check(expr.Truth(conditions[i].Expression), false, false, at.Child("matchConditions").Index(i).Child("expression"))...)
	}
	return c, errs, nil
}

func checkValidating(env *expr.Env, s *admissionregistrationv1.ValidatingAdmissionPolicySpec, known map[string]bool) (field.ErrorList, error) {
	at := field.NewPath("spec")
	c, errs, err := checkShared(env, s.ParamKind != nil, known, s.Variables, s.MatchConditions)
	if err != nil {
		return nil, err
	}
	for i := range s.Validations {
		at, v := at.Child("validations").Index(i), &s.Validations[i]
		errs = append(errs, c.Check(expr.Truth(v.Expression), false, false, at.Child("expression"))...)
		errs = append(errs, c.Check(expr.Text(v.MessageExpression), true, false, at.Child("messageExpression"))...)
	}
	for i := range s.AuditAnnotations {
		a := &s.AuditAnnotations[i]
		errs = append(errs, c.Check(expr.OptionalText(a.ValueExpression), false, false, at.Child("auditAnnotations").Index(i).Child("valueExpression"))...)
	}
	return errs, nil
}

func checkMutating(env *expr.Env, s *admissionregistrationv1.MutatingAdmissionPolicySpec, known map[string]bool) (field.ErrorList, error) {
	c, errs, err := checkShared(env, s.ParamKind != nil, known, s.Variables, s.MatchConditions)
	if err != nil {
		return nil, err
	}
	for i := range s.Mutations {
		m, at := &s.Mutations[i], field.NewPath("spec", "mutations").Index(i)
		name := "jsonPatch"
		if m.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration {
			name = "applyConfiguration"
		}
		errs = append(errs, c.Check(mutation(m), false, true, at.Child(name, "expression"))...)
	}
	return errs, nil
}

// mutation is the expression of a mutation.
func mutation(m *admissionregistrationv1.Mutation) expr.Expression {
	switch {
	case m.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
		return expr.ApplyConfiguration(m.ApplyConfiguration.Expression)
	case m.PatchType == admissionregistrationv1.PatchTypeJSONPatch && m.JSONPatch != nil:
		return expr.JSONPatch(m.JSONPatch.Expression)
	}
	return expr.Expression{}
}
