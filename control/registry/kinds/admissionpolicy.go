package kinds

import (
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// ValidatingAdmissionPolicies is the kind ValidatingAdmissionPolicy of
// admissionregistration.k8s.io/v1.
func ValidatingAdmissionPolicies() Strategy[*admissionregistrationv1.ValidatingAdmissionPolicy] {
	type policy = admissionregistrationv1.ValidatingAdmissionPolicy
	return Strategy[*policy]{
		Resource:     api.ValidatingAdmissionPolicies,
		AnyFinalizer: true, ConditionalUpdate: true,
		Default: func(p *policy) {
			orPtr(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(p.Spec.MatchConstraints)
		},
		Create:         func(p *policy) { p.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{} },
		Validate:       func(p *policy) field.ErrorList { return validateValidatingPolicy(&p.Spec) },
		ValidateUpdate: func(p, _ *policy) field.ErrorList { return validateValidatingPolicy(&p.Spec) },
		Spec:           func(p *policy) any { return &p.Spec },
		Status:         func(p *policy) any { return &p.Status },
		Generation:     true,
		Columns:        columns("Name", "#Validations", "ParamKind", "Age"),
		Row: func(p *policy, now time.Time) []any {
			return []any{p.Name, int64(len(p.Spec.Validations)), paramKindText(p.Spec.ParamKind), age(p.CreationTimestamp, now)}
		},
	}
}

// MutatingAdmissionPolicies is the kind MutatingAdmissionPolicy of
// admissionregistration.k8s.io/v1.
func MutatingAdmissionPolicies() Strategy[*admissionregistrationv1.MutatingAdmissionPolicy] {
	type policy = admissionregistrationv1.MutatingAdmissionPolicy
	return Strategy[*policy]{
		Resource:     api.MutatingAdmissionPolicies,
		AnyFinalizer: true, ConditionalUpdate: true,
		Default: func(p *policy) {
			orPtr(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(p.Spec.MatchConstraints)
		},
		Validate:       func(p *policy) field.ErrorList { return validateMutatingPolicy(&p.Spec) },
		ValidateUpdate: func(p, _ *policy) field.ErrorList { return validateMutatingPolicy(&p.Spec) },
		Spec:           func(p *policy) any { return &p.Spec },
		Generation:     true,
		Columns:        columns("Name", "#Mutations", "ParamKind", "Age"),
		Row: func(p *policy, now time.Time) []any {
			return []any{p.Name, int64(len(p.Spec.Mutations)), paramKindText(p.Spec.ParamKind), age(p.CreationTimestamp, now)}
		},
	}
}

// ValidatingAdmissionPolicyBindings is the kind
// ValidatingAdmissionPolicyBinding of admissionregistration.k8s.io/v1.
func ValidatingAdmissionPolicyBindings() Strategy[*admissionregistrationv1.ValidatingAdmissionPolicyBinding] {
	type binding = admissionregistrationv1.ValidatingAdmissionPolicyBinding
	validate := func(b *binding) field.ErrorList {
		return all(validatePolicyBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources),
			validateActions(b.Spec.ValidationActions, field.NewPath("spec", "validationActions")))
	}
	return Strategy[*binding]{
		Resource:     api.ValidatingAdmissionPolicyBindings,
		AnyFinalizer: true, ConditionalUpdate: true,
		Default:        func(b *binding) { defaultMatch(b.Spec.MatchResources) },
		Validate:       validate,
		ValidateUpdate: func(b, _ *binding) field.ErrorList { return validate(b) },
		Spec:           func(b *binding) any { return &b.Spec },
		Generation:     true,
		Columns:        columns("Name", "PolicyName", "ParamRef", "Age"),
		Row: func(b *binding, now time.Time) []any {
			return []any{b.Name, b.Spec.PolicyName, paramRefText(b.Spec.ParamRef), age(b.CreationTimestamp, now)}
		},
	}
}

// MutatingAdmissionPolicyBindings is the kind MutatingAdmissionPolicyBinding
// of admissionregistration.k8s.io/v1.
func MutatingAdmissionPolicyBindings() Strategy[*admissionregistrationv1.MutatingAdmissionPolicyBinding] {
	type binding = admissionregistrationv1.MutatingAdmissionPolicyBinding
	validate := func(b *binding) field.ErrorList {
		return validatePolicyBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
	}
	return Strategy[*binding]{
		Resource:     api.MutatingAdmissionPolicyBindings,
		AnyFinalizer: true, ConditionalUpdate: true,
		Default:        func(b *binding) { defaultMatch(b.Spec.MatchResources) },
		Validate:       validate,
		ValidateUpdate: func(b, _ *binding) field.ErrorList { return validate(b) },
		Spec:           func(b *binding) any { return &b.Spec },
		Generation:     true,
		Columns:        columns("Name", "PolicyName", "ParamRef", "Age"),
		Row: func(b *binding, now time.Time) []any {
			return []any{b.Name, b.Spec.PolicyName, paramRefText(b.Spec.ParamRef), age(b.CreationTimestamp, now)}
		},
	}
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	orPtr(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	orPtr(&m.NamespaceSelector, metav1.LabelSelector{})
	orPtr(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			orPtr(&rules[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}

func paramKindText(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

func paramRefText(ref *admissionregistrationv1.ParamRef) string {
	switch {
	case ref == nil:
		return "<unset>"
	case ref.Namespace != "":
		return ref.Namespace + "/" + ref.Name
	case ref.Name != "":
		return "*/" + ref.Name
	case ref.Selector != nil:
		return ref.Selector.String()
	}
	return "<unset>"
}
