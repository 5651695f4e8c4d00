package expr

import (
	"context"
	"fmt"

	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

// Conditions are the compiled match conditions of a webhook or a policy: all
// must be true. They are immutable; nil has none.
type Conditions struct {
	names     []string
	evaluator cel.ConditionEvaluator
}

// Conditions compiles match conditions. Those that do not compile are errors
// at each evaluation, as in Kubernetes, where a later version may have stored
// them.
func (e *Env) Conditions(list []admissionregistrationv1.MatchCondition) *Conditions {
	if len(list) == 0 {
		return nil
	}
	c := &Conditions{}
	compiled := make([]cel.CompilationResult, len(list))
	for i := range list {
		c.names = append(c.names, list[i].Name)
		compiled[i] = e.compile(&list[i], false)
	}
	c.evaluator = cel.NewCondition(compiled)
	return c
}

// Match evaluates the conditions. When one is false the rest does not count:
// failed is its name. Otherwise an error of one is the result.
func (c *Conditions) Match(ctx context.Context, in *Input) (ok bool, failed string, err error) {
	return c.MatchWith(ctx, in, nil)
}

// decide makes one answer of the results.
func (c *Conditions) decide(results []cel.EvaluationResult, _ int64, err error) (ok bool, failed string, _ error) {
	if err != nil {
		return false, "", err
	}
	var errs []error
	for i, result := range results {
		if result.Error != nil {
			errs = append(errs, result.Error)
		} else if result.EvalResult == types.False {
			return false, c.names[i], nil
		}
	}
	return len(errs) == 0, "", utilerrors.NewAggregate(errs)
}

// CheckConditions compiles match conditions that are being written; at is
// where they are. Those that old has already are let through when they have
// compiled once.
func (e *Env) CheckConditions(list, old []admissionregistrationv1.MatchCondition, at *field.Path) (errs field.ErrorList) {
	known := map[string]bool{}
	for i := range old {
		known[old[i].Expression] = true
	}
	for i := range list {
		if list[i].Expression == "" {
			continue // Required, says the kind
		}
		errs = append(errs, Problem(e.compile(&list[i], !known[list[i].Expression]), at.Index(i).Child("expression"))...)
	}
	return errs
}

// Problem is what is wrong with a compiled expression, in the words of
// Kubernetes' validation.
func Problem(result cel.CompilationResult, at *field.Path) field.ErrorList {
	if result.Error == nil {
		return nil
	}
	if result.Error.Type == apiservercel.ErrorTypeInvalid {
		return field.ErrorList{field.Invalid(at, result.ExpressionAccessor.GetExpression(), result.Error.Detail)}
	}
	return field.ErrorList{field.InternalError(at, fmt.Errorf("%s", result.Error.Detail))}
}
