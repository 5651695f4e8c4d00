package policy

import (
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/match"
	"wherry.dev/wherry/control/api"
)

// Mutating changes objects by MutatingAdmissionPolicies.
type Mutating struct {
	cfg      Config
	policies kept[*mutator]
	bindings kept[criteria]
}

// NewMutating makes it.
func NewMutating(cfg Config) *Mutating { return &Mutating{cfg: cfg} }

// mutator is a compiled policy. It is immutable.
type mutator struct {
	*admissionregistrationv1.MutatingAdmissionPolicy
	criteria   criteria
	program    *expr.Program
	conditions *expr.Conditions
	patchers   []patch.Patcher
	err        error
}

func (m *Mutating) compile(p *admissionregistrationv1.MutatingAdmissionPolicy) *mutator {
	out := &mutator{MutatingAdmissionPolicy: p, criteria: newCriteria(p.Spec.MatchConstraints, false)}
	if out.program, out.err = m.cfg.Env.Program(p.Spec.Variables, p.Spec.ParamKind != nil); out.err != nil {
		return out
	}
	out.conditions = out.program.Conditions(p.Spec.MatchConditions)
	for i := range p.Spec.Mutations {
		evaluator := out.program.Mutator(mutation(&p.Spec.Mutations[i]))
		if p.Spec.Mutations[i].PatchType == admissionregistrationv1.PatchTypeApplyConfiguration {
			out.patchers = append(out.patchers, patch.NewApplyConfigurationPatcher(evaluator))
		} else {
			out.patchers = append(out.patchers, patch.NewJSONPatcher(evaluator))
		}
	}
	return out
}

// roundsKey is where a request keeps the rounds.
const roundsKey = "MutatingAdmissionPolicy"

// rounds is what is remembered of the first round for a second one.
type rounds struct {
	asked map[string]bool // may be asked again if somebody changes the object after them
	due   map[string]bool // somebody has
	last  api.Object      // as the policies left it
}

// changed says that the object was changed after those who were asked.
func (s *rounds) changed() {
	for key := range s.asked {
		s.due[key] = true
	}
	clear(s.asked)
}

// Mutate lets all policies that a binding puts into force change the object, in
// the order of their names. When one has, those before it that want it are
// asked once more in another round.
func (m *Mutating) Mutate(ctx context.Context, r *api.AdmissionRequest) error {
	if r.Object == nil || match.IsConfiguration(r) {
		return nil
	}
	list, err := r.Client.List(ctx, api.MutatingAdmissionPolicies.Key("", ""), api.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	policies, err := api.Items[*admissionregistrationv1.MutatingAdmissionPolicy](list)
	if err != nil {
		return err
	}
	if list, err = r.Client.List(ctx, api.MutatingAdmissionPolicyBindings.Key("", ""), api.ListOptions{}); err != nil {
		return err
	}
	all, err := api.Items[*admissionregistrationv1.MutatingAdmissionPolicyBinding](list)
	if err != nil {
		return err
	}
	bindings := map[string][]*admissionregistrationv1.MutatingAdmissionPolicyBinding{}
	for _, b := range all {
		bindings[b.Spec.PolicyName] = append(bindings[b.Spec.PolicyName], b)
	}
	m.bindings.limit(len(all))
	m.policies.limit(len(policies))
	state := roundsOf(r)
	if r.Reinvoked && !apiequality.Semantic.DeepEqual(state.last, r.Object) {
		state.changed()
	}
	for _, p := range policies {
		if len(bindings[p.Name]) == 0 {
			continue
		}
		compiled := m.policies.get(p, func() *mutator { return m.compile(p) })
		if err := m.apply(ctx, r, state, compiled, bindings[p.Name]); err != nil {
			return err
		}
	}
	state.last = r.Object.DeepCopyObject().(api.Object)
	return nil
}

func roundsOf(r *api.AdmissionRequest) *rounds {
	state, ok := r.Keep[roundsKey].(*rounds)
	if !ok {
		state = &rounds{asked: map[string]bool{}, due: map[string]bool{}}
		if r.Keep == nil {
			r.Keep = map[string]any{}
		}
		r.Keep[roundsKey] = state
	}
	return state
}

// apply is one policy's turn. An error refuses the request.
func (m *Mutating) apply(ctx context.Context, r *api.AdmissionRequest, state *rounds, p *mutator, bindings []*admissionregistrationv1.MutatingAdmissionPolicyBinding) error {
	as, ok, err := p.criteria.matches(ctx, r)
	if err == nil && ok && p.Spec.ParamKind != nil {
		_, _, err = m.cfg.paramResource(p.Spec.ParamKind)
	}
	if err == nil && ok {
		err = p.err
	}
	if err != nil {
		return p.fail(r, "", metav1.StatusReasonForbidden, fmt.Errorf("failed to configure policy: %w", err))
	}
	if !ok {
		return nil
	}
	for _, b := range bindings {
		c := m.bindings.get(b, func() criteria { return newCriteria(b.Spec.MatchResources, true) })
		_, ok, err := c.matches(ctx, r)
		var params []api.Object
		if err == nil && ok {
			params, err = m.cfg.paramsOf(ctx, r, p.Spec.ParamKind, b.Spec.ParamRef)
		}
		if err != nil {
			if err := p.fail(r, b.Name, metav1.StatusReasonForbidden, fmt.Errorf("failed to configure binding: %w", err)); err != nil {
				return err
			}
			continue
		}
		for _, param := range params {
			if err := m.invoke(ctx, r, state, p, b.Name, as, param); err != nil {
				return err
			}
		}
	}
	return nil
}

// invoke applies the policy with one set of parameters, which may be nil.
func (m *Mutating) invoke(ctx context.Context, r *api.AdmissionRequest, state *rounds, p *mutator, binding string, as api.Resource, param api.Object) error {
	in, err := expr.NewInput(ctx, r, as, m.cfg.Authorizer)
	if err != nil {
		return err
	}
	ok, _, err := p.conditions.MatchWith(ctx, in, runtimeOf(param))
	if err != nil {
		return p.fail(r, binding, metav1.StatusReasonInvalid, err)
	}
	key := p.Name + "/" + binding
	if param != nil {
		key += "/" + param.GetNamespace() + "/" + param.GetName()
	}
	if !ok || r.Reinvoked && !state.due[key] {
		return nil
	}
	before := r.Object
	if err := m.patch(ctx, r, p, binding, as, param); err != nil {
		if status := apierrors.APIStatus(nil); errors.As(err, &status) {
			return err
		}
		r.Object = before // the mutations of a policy belong together
		return p.fail(r, binding, metav1.StatusReasonInvalid, err)
	}
	if !apiequality.Semantic.DeepEqual(before, r.Object) {
		state.changed()
		r.Again = true
	}
	if p.Spec.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy {
		state.asked[key] = true
	}
	return nil
}

// fail refuses the request because of a policy that could not be asked, unless
// the policy ignores that.
func (p *mutator) fail(r *api.AdmissionRequest, binding string, reason metav1.StatusReason, err error) error {
	if ignores(p.Spec.FailurePolicy) {
		return nil
	}
	text := fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", p.Name, binding, err)
	if binding == "" {
		text = fmt.Sprintf("policy %q denied request: %v", p.Name, err)
	}
	refused := apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, err)
	refused.ErrStatus.Message, refused.ErrStatus.Reason = text, reason
	refused.ErrStatus.Details.Causes = []metav1.StatusCause{{Message: text}}
	return refused
}
