package policy

import (
	"context"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/match"
	"wherry.dev/wherry/control/api"
)

// Validating judges by ValidatingAdmissionPolicies.
type Validating struct {
	cfg      Config
	policies kept[*validator]
	bindings kept[criteria]
}

// NewValidating makes it.
func NewValidating(cfg Config) *Validating { return &Validating{cfg: cfg} }

// validator is a compiled policy. It is immutable.
type validator struct {
	*admissionregistrationv1.ValidatingAdmissionPolicy
	criteria   criteria
	conditions *expr.Conditions
	// The results of these have the order of the policy's validations and
	// annotations.
	validations, messages, annotations cel.ConditionEvaluator
	err                                error
}

func (v *Validating) compile(p *admissionregistrationv1.ValidatingAdmissionPolicy) *validator {
	out := &validator{ValidatingAdmissionPolicy: p, criteria: newCriteria(p.Spec.MatchConstraints, false)}
	program, err := v.cfg.Env.Program(p.Spec.Variables, p.Spec.ParamKind != nil)
	if err != nil {
		out.err = err
		return out
	}
	out.conditions = program.Conditions(p.Spec.MatchConditions)
	var validations, messages, annotations []expr.Expression
	for _, one := range p.Spec.Validations {
		validations, messages = append(validations, expr.Truth(one.Expression)), append(messages, expr.Text(one.MessageExpression))
	}
	for _, one := range p.Spec.AuditAnnotations {
		annotations = append(annotations, expr.OptionalText(one.ValueExpression))
	}
	out.validations, out.annotations = program.Evaluator(validations, false), program.Evaluator(annotations, false)
	out.messages = program.Evaluator(messages, true)
	return out
}

// Validate judges a request by all policies that a binding puts into force.
// The first refusal counts; warnings and notes for the audit log are given for
// all.
func (v *Validating) Validate(ctx context.Context, r *api.AdmissionRequest) error {
	if match.IsConfiguration(r) {
		return nil
	}
	list, err := r.Client.List(ctx, api.ValidatingAdmissionPolicies.Key("", ""), api.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	policies, err := api.Items[*admissionregistrationv1.ValidatingAdmissionPolicy](list)
	if err != nil {
		return err
	}
	if list, err = r.Client.List(ctx, api.ValidatingAdmissionPolicyBindings.Key("", ""), api.ListOptions{}); err != nil {
		return err
	}
	all, err := api.Items[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](list)
	if err != nil {
		return err
	}
	bindings := map[string][]*admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
	for _, b := range all {
		bindings[b.Spec.PolicyName] = append(bindings[b.Spec.PolicyName], b)
	}
	v.bindings.limit(len(all))
	v.policies.limit(len(policies))
	t := &trial{scene: newScene(&v.cfg, r)}
	for _, p := range policies {
		if len(bindings[p.Name]) == 0 {
			continue
		}
		compiled := v.policies.get(p, func() *validator { return v.compile(p) })
		if err := v.judge(ctx, t, compiled, bindings[p.Name]); err != nil {
			return err
		}
	}
	return t.verdict(ctx)
}

// judge is one policy's judgement. An error is none of the policy's.
func (v *Validating) judge(ctx context.Context, t *trial, p *validator, bindings []*admissionregistrationv1.ValidatingAdmissionPolicyBinding) error {
	as, ok, err := p.criteria.matches(ctx, t.r)
	if err != nil {
		t.misconfigured(p, nil, err)
		return nil
	}
	if !ok {
		return nil
	}
	if p.Spec.ParamKind != nil {
		if _, _, err := v.cfg.paramResource(p.Spec.ParamKind); err != nil {
			t.misconfigured(p, nil, err)
			return nil
		}
	}
	notes := notes{}
	for _, b := range bindings {
		c := v.bindings.get(b, func() criteria { return newCriteria(b.Spec.MatchResources, true) })
		_, ok, err := c.matches(ctx, t.r)
		if err != nil {
			t.misconfigured(p, b, err)
			continue
		}
		if !ok {
			continue
		}
		params, err := v.cfg.paramsOf(ctx, t.r, p.Spec.ParamKind, b.Spec.ParamRef)
		if err != nil {
			t.misconfigured(p, b, err)
			continue
		}
		if len(params) == 0 {
			continue
		}
		in, err := t.input(ctx, as)
		if err != nil {
			t.misconfigured(p, b, err)
			continue
		}
		ns, err := t.namespace(ctx)
		if err != nil {
			return err
		}
		for _, param := range params {
			began := time.Now()
			out := p.evaluate(ctx, in, param, ns)
			v.cfg.Metrics.observe(p, b, out, time.Since(began))
			t.take(ctx, p, b, out, notes)
		}
	}
	notes.publish(ctx, p.Name)
	return nil
}
