package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
)

// failure is what a policy has against a request.
type failure struct {
	index   int // of the validation
	message string
	reason  metav1.StatusReason
	err     error // why it could not be evaluated; nil: it is not true
}

// note is something for the audit log.
type note struct{ key, value string }

// result is what one evaluation of a policy gave.
type result struct {
	failures []failure
	notes    []note
	// broken are notes that could not be made, which refuses the request whatever
	// the binding does with failures, as by Kubernetes' API server: under the
	// policy Fail, and of a wrong type under Ignore, too.
	broken []string
	// ignored are validations that could not be evaluated, which the policy lets
	// pass.
	ignored []error
}

// ignores tells whether the policy lets pass what it cannot judge.
func ignores(p *admissionregistrationv1.FailurePolicyType) bool {
	return p != nil && *p == admissionregistrationv1.Ignore
}

// unable is the result of a policy that could not be evaluated.
func (p *validator) unable(err error) result {
	if ignores(p.Spec.FailurePolicy) {
		return result{ignored: []error{err}}
	}
	return result{failures: []failure{{message: err.Error(), err: err}}}
}

// evaluate evaluates the policy with one set of parameters, which may be nil.
func (p *validator) evaluate(ctx context.Context, in *expr.Input, param api.Object, ns *corev1.Namespace) (out result) {
	if p.err != nil {
		return p.unable(p.err)
	}
	var params runtime.Object
	if param != nil {
		params = param
	}
	ok, _, err := p.conditions.MatchWith(ctx, in, params)
	if err != nil {
		return p.unable(err)
	}
	if !ok {
		return result{}
	}
	bindings := in.Bindings(params)
	alone := cel.OptionalVariableBindings{VersionedParams: params}
	results, budget, err := p.validations.ForInput(ctx, in.Attributes, in.Request, bindings, ns, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return p.unable(err)
	}
	messages, _, err := p.messages.ForInput(ctx, in.Attributes, in.Request, alone, ns, budget)
	spent := errors.Is(err, apiservercel.ErrInternal) || errors.Is(err, apiservercel.ErrOutOfBudget)
	for i, r := range results {
		problem := r.Error
		if problem == nil && spent {
			problem = fmt.Errorf("failed messageExpression: %w", err)
		}
		switch {
		case problem != nil && ignores(p.Spec.FailurePolicy):
			out.ignored = append(out.ignored, problem)
		case problem != nil:
			out.failures = append(out.failures, failure{index: i, message: problem.Error(), err: problem})
		case r.EvalResult != types.True:
			var text *cel.EvaluationResult
			if i < len(messages) {
				text = &messages[i]
			}
			out.failures = append(out.failures, refusal(i, &p.Spec.Validations[i], text))
		}
	}
	annotations, _, err := p.annotations.ForInput(ctx, in.Attributes, in.Request, bindings, ns, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return p.unable(err)
	}
	for i, r := range annotations {
		out.annotate(p.Spec.AuditAnnotations[i], r, ignores(p.Spec.FailurePolicy))
	}
	return out
}

// refusal words a validation that is not true: by its message expression if
// that gives one line of reasonable length, or else its message, or else the
// expression itself.
func refusal(i int, v *admissionregistrationv1.Validation, text *cel.EvaluationResult) failure {
	f := failure{index: i, reason: metav1.StatusReasonInvalid}
	if v.Reason != nil {
		f.reason = *v.Reason
	}
	if text != nil && text.Error == nil && text.EvalResult != nil {
		s, _ := text.EvalResult.Value().(string)
		if s = strings.TrimSpace(s); len(s) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(s, "\n") {
			f.message = s
		}
	}
	if f.message == "" {
		f.message = strings.TrimSpace(v.Message)
	}
	if f.message == "" {
		f.message = "failed expression: " + strings.TrimSpace(v.Expression)
	}
	return f
}

func (out *result) annotate(a admissionregistrationv1.AuditAnnotation, r cel.EvaluationResult, ignore bool) {
	problem := ""
	switch {
	case r.Error != nil:
		if ignore {
			return
		}
		problem = r.Error.Error()
	case r.EvalResult == nil || r.EvalResult.Type() == types.NullType:
		return
	case r.EvalResult.Type() == types.StringType:
		if value := strings.TrimSpace(r.EvalResult.Value().(string)); value != "" {
			out.notes = append(out.notes, note{a.Key, value})
		}
		return
	default:
		problem = fmt.Sprintf("valueExpression '%v' resulted in unsupported return type: %v. Return type must be either string or null.",
			a.ValueExpression, r.EvalResult.Type())
	}
	out.broken = append(out.broken, problem)
}
