package expr

import (
	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Typed compiles expressions against the schemas of the objects that they are
// about, to find mistakes that would only show when they are evaluated. It
// evaluates nothing and belongs to one goroutine.
type Typed struct {
	compiler *cel.CompositedCompiler
}

// Typed makes it for an object and the parameters of a policy. A nil schema is
// one that is not known; params says that there are parameters at all.
func (e *Env) Typed(object, param *spec.Schema, params bool, variables []admissionregistrationv1.Variable) (*Typed, error) {
	e.prepare()
	request, namespace := cel.BuildRequestType(), cel.BuildNamespaceType()
	types := []*apiservercel.DeclType{request, namespace}
	options := []celgo.EnvOption{
		celgo.Variable(cel.RequestVarName, request.CelType()), celgo.Variable(cel.NamespaceVarName, namespace.CelType()),
		celgo.Variable(cel.AuthorizerVarName, library.AuthorizerType),
	}
	declare := func(s *spec.Schema, name string, variables ...string) {
		is := celgo.DynType
		if s != nil {
			if t := common.SchemaDeclType(&openapi.Schema{Schema: s}, true); t != nil {
				t = t.MaybeAssignTypeName(name)
				types = append(types, t)
				is = t.CelType()
			}
		}
		for _, v := range variables {
			options = append(options, celgo.Variable(v, is))
		}
	}
	declare(object, "policy.object", cel.ObjectVarName, cel.OldObjectVarName)
	if params {
		declare(param, "policy.params", cel.ParamsVarName)
	}
	env, err := e.base.Extend(environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: options, DeclTypes: types})
	if err != nil {
		return nil, err
	}
	compiler, err := cel.NewCompositedCompilerForTypeChecking(env)
	if err != nil {
		return nil, err
	}
	t := &Typed{compiler}
	compiler.Compiler = t
	for i := range variables {
		compiler.CompileAndStoreVariable((*variable)(&variables[i]), cel.OptionalVariableDeclarations{}, environment.StoredExpressions)
	}
	return t, nil
}

// CompileCELExpression implements cel.Compiler: any type will do, and there is
// no program.
func (t *Typed) CompileCELExpression(e cel.ExpressionAccessor, _ cel.OptionalVariableDeclarations, mode environment.Type) cel.CompilationResult {
	env, err := t.compiler.Env(mode)
	if err != nil {
		return cel.CompilationResult{ExpressionAccessor: e, Error: &apiservercel.Error{Type: apiservercel.ErrorTypeInternal, Detail: err.Error()}}
	}
	ast, issues := env.Compile(e.GetExpression())
	if issues != nil {
		return cel.CompilationResult{ExpressionAccessor: e, Error: &apiservercel.Error{Type: apiservercel.ErrorTypeInvalid, Detail: issues.String()}}
	}
	return cel.CompilationResult{ExpressionAccessor: e, OutputType: ast.OutputType()}
}

// Check returns what is wrong with an expression, nil for nothing.
func (t *Typed) Check(text string) error {
	result := t.CompileCELExpression(Expression{Text: text}, cel.OptionalVariableDeclarations{}, environment.StoredExpressions)
	if result.Error == nil {
		return nil
	}
	return result.Error
}
