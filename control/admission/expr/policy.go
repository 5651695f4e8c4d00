package expr

import (
	"context"
	"strings"

	celgo "github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Expression is an expression of a policy with the types that it may have.
type Expression struct {
	Text    string
	returns []*celgo.Type
}

// GetExpression implements cel.ExpressionAccessor.
func (e Expression) GetExpression() string { return e.Text }

// ReturnTypes implements cel.ExpressionAccessor.
func (e Expression) ReturnTypes() []*celgo.Type { return e.returns }

// Truth is an expression that is true or false.
func Truth(text string) Expression { return Expression{text, []*celgo.Type{celgo.BoolType}} }

// Text is an expression that is a string.
func Text(text string) Expression { return Expression{text, []*celgo.Type{celgo.StringType}} }

// OptionalText is an expression that is a string or null.
func OptionalText(text string) Expression {
	return Expression{text, []*celgo.Type{celgo.StringType, celgo.NullType}}
}

// ApplyConfiguration is an expression that is what an object shall look like in
// part.
func ApplyConfiguration(text string) Expression {
	return Expression{text, []*celgo.Type{celtypes.NewObjectType("Object")}}
}

// JSONPatch is an expression that is a list of changes.
func JSONPatch(text string) Expression {
	return Expression{text, []*celgo.Type{celgo.ListType(celtypes.NewObjectType("JSONPatch"))}}
}

// variable implements cel.NamedExpressionAccessor.
type variable admissionregistrationv1.Variable

func (v *variable) GetName() string          { return v.Name }
func (v *variable) GetExpression() string    { return v.Expression }
func (*variable) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.AnyType, celgo.DynType} }

// Program compiles the expressions of one policy. What it has compiled is safe
// for concurrent use; the Program itself belongs to one goroutine.
type Program struct {
	compiler *cel.CompositedCompiler
	has      cel.OptionalVariableDeclarations
}

// Program makes the compiler of a policy with its variables. params says that
// the policy has some.
func (e *Env) Program(variables []admissionregistrationv1.Variable, params bool) (*Program, error) {
	compiler, err := e.Policy()
	if err != nil {
		return nil, err
	}
	p := &Program{compiler: compiler, has: cel.OptionalVariableDeclarations{HasParams: params, HasAuthorizer: true}}
	for i := range variables {
		compiler.CompileAndStoreVariable((*variable)(&variables[i]), p.has, environment.StoredExpressions)
	}
	return p, nil
}

// Conditions compiles the match conditions of the policy, nil where it has none.
func (p *Program) Conditions(list []admissionregistrationv1.MatchCondition) *Conditions {
	if len(list) == 0 {
		return nil
	}
	c := &Conditions{}
	expressions := make([]cel.ExpressionAccessor, len(list))
	for i := range list {
		c.names, expressions[i] = append(c.names, list[i].Name), (*matchCondition)(&list[i])
	}
	c.evaluator = p.compiler.CompileCondition(expressions, p.has, environment.StoredExpressions)
	return c
}

// Evaluator compiles expressions that are evaluated together, in their order.
// One without a text is left out. With alone they do not know the authorizer.
// Those that do not compile are errors at each evaluation.
func (p *Program) Evaluator(list []Expression, alone bool) cel.ConditionEvaluator {
	expressions := make([]cel.ExpressionAccessor, len(list))
	for i := range list {
		if list[i].Text != "" {
			expressions[i] = list[i]
		}
	}
	has := p.has
	has.HasAuthorizer = !alone
	return p.compiler.CompileCondition(expressions, has, environment.StoredExpressions)
}

// Mutator compiles an expression that makes a patch.
func (p *Program) Mutator(e Expression) cel.MutatingEvaluator {
	has := p.has
	has.HasPatchTypes = true
	return p.compiler.CompileMutatingEvaluator(e, has, environment.StoredExpressions)
}

// Context is what a Mutator is evaluated in: it knows the policy's variables.
func (p *Program) Context(ctx context.Context) context.Context { return p.compiler.CreateContext(ctx) }

// Checker compiles expressions that are being written.
type Checker struct {
	program *Program
	known   map[string]bool // texts that were stored before
}

// Checker makes a checker of a policy's expressions. Texts in known were
// accepted before: they may use what only newer servers know.
func (e *Env) Checker(params bool, known map[string]bool) (*Checker, error) {
	p, err := e.Program(nil, params)
	return &Checker{p, known}, err
}

func (c *Checker) mode(text string) environment.Type {
	if c.known[text] {
		return environment.StoredExpressions
	}
	return environment.NewExpressions
}

// Variables checks the variables of the policy and lets later expressions know
// them.
func (c *Checker) Variables(list []admissionregistrationv1.Variable, at *field.Path) (errs field.ErrorList) {
	for i := range list {
		result := c.program.compiler.CompileAndStoreVariable((*variable)(&list[i]), c.program.has, c.mode(list[i].Expression))
		errs = append(errs, Problem(result, at.Index(i).Child("expression"))...)
	}
	return errs
}

// Check checks an expression; an empty one is not there. With alone it does not
// know the authorizer, with patch it knows the types that patches are made of.
func (c *Checker) Check(e Expression, alone, patch bool, at *field.Path) field.ErrorList {
	if strings.TrimSpace(e.Text) == "" {
		return nil // Required, says the kind
	}
	has := c.program.has
	has.HasAuthorizer, has.HasPatchTypes = !alone, patch
	return Problem(c.program.compiler.CompileCELExpression(e, has, c.mode(e.Text)), at)
}

// MatchWith is Match with the parameters of a policy, which may be nil.
func (c *Conditions) MatchWith(ctx context.Context, in *Input, params runtime.Object) (ok bool, failed string, err error) {
	if c == nil {
		return true, "", nil
	}
	return c.decide(c.evaluator.ForInput(ctx, in.Attributes, in.Request, in.Bindings(params), nil, celconfig.RuntimeCELCostBudgetMatchConditions))
}

// Namespace is a namespace with the fields that expressions may read; nil stays
// nil.
func Namespace(ns *corev1.Namespace) *corev1.Namespace { return cel.CreateNamespaceObject(ns) }
