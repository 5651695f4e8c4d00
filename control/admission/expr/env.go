package expr

import (
	"fmt"
	"sync"

	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Env makes compilers. The zero value is ready; what they share is made when
// the first expression is compiled, for it takes tens of milliseconds and
// megabytes that a cluster without expressions does not need.
type Env struct {
	once       sync.Once
	base       *environment.EnvSet
	conditions cel.Compiler
}

func (e *Env) prepare() {
	e.once.Do(func() {
		e.base = environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
		e.conditions = cel.NewCompiler(e.base)
	})
}

// Policy returns a compiler for one policy: expressions that it compiles know
// the variables that it has compiled before. It is used by one goroutine.
func (e *Env) Policy() (*cel.CompositedCompiler, error) {
	e.prepare()
	c, err := cel.NewCompositedCompiler(e.base)
	if err != nil {
		return nil, fmt.Errorf("make an environment for expressions: %w", err)
	}
	return c, nil
}

// matchCondition implements cel.ExpressionAccessor.
type matchCondition admissionregistrationv1.MatchCondition

func (c *matchCondition) GetExpression() string      { return c.Expression }
func (c *matchCondition) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.BoolType} }

// compile compiles a match condition of a webhook. fresh says that it is being
// written: then only what all servers of a cluster know may be used.
func (e *Env) compile(condition *admissionregistrationv1.MatchCondition, fresh bool) cel.CompilationResult {
	e.prepare()
	mode := environment.StoredExpressions
	if fresh {
		mode = environment.NewExpressions
	}
	return e.conditions.CompileCELExpression((*matchCondition)(condition), cel.OptionalVariableDeclarations{HasAuthorizer: true}, mode)
}
