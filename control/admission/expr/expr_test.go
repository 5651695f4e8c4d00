package expr_test

import (
	"context"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// readers lets a user read and nobody do anything else.
type readers string

func (r readers) Authorize(_ context.Context, a auth.Attributes) (bool, string, error) {
	return a.User.Name == string(r) && a.Verb == "get", "", nil
}

func conditions(expressions ...string) (list []admissionregistrationv1.MatchCondition) {
	for i, text := range expressions {
		list = append(list, admissionregistrationv1.MatchCondition{Name: string(rune('a' + i)), Expression: text})
	}
	return list
}

func TestConditions(t *testing.T) {
	env := &expr.Env{}
	for name, test := range map[string]struct {
		expressions []string
		ok          bool
		failed, err string
	}{
		"none":       {ok: true},
		"object":     {expressions: []string{`object.data.colour == "red" && object.metadata.labels["a"] == "b"`}, ok: true},
		"old object": {expressions: []string{`oldObject == null`}, ok: true},
		"request": {expressions: []string{`request.resource.resource == "configmaps" && request.operation == "CREATE" && request.namespace == "default"
			&& request.userInfo.username == "ann" && request.kind.kind == "ConfigMap" && !request.dryRun && request.name == "one"`}, ok: true},
		"authorizer": {expressions: []string{`authorizer.group("").resource("pods").namespace("x").check("get").allowed()`,
			`!authorizer.requestResource.check("delete").allowed()`}, ok: true},
		"one is false":           {expressions: []string{`true`, `object.data.colour == "blue"`}, failed: "b"},
		"false before an error":  {expressions: []string{`object.data.none == "x"`, `false`}, failed: "b"},
		"an error":               {expressions: []string{`object.data.none == "x"`}, err: "no such key: none"},
		"an expression too many": {expressions: []string{`object +`}, err: "Syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			compiled := env.Conditions(conditions(test.expressions...))
			var ok bool
			var failed string
			var problem error
			reg := registrytest.New(t, registry.Config{Admission: registrytest.Judge(func(ctx context.Context, r *api.AdmissionRequest) error {
				if !r.Is(api.ConfigMaps, api.Create) || r.Key.Name != "one" {
					return nil
				}
				in, err := expr.NewInput(ctx, r, r.Views.Served()[0], readers("ann"))
				if err != nil {
					return err
				}
				ok, failed, problem = compiled.Match(ctx, in)
				return nil
			})})
			ctx := auth.WithUser(t.Context(), auth.User{Name: "ann"})
			obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: "default", Labels: map[string]string{"a": "b"}},
				Data: map[string]string{"colour": "red"}}
			if _, err := reg.Create(ctx, api.ConfigMaps.KeyOf(obj), obj, api.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if ok != test.ok || failed != test.failed || (problem == nil) != (test.err == "") {
				t.Errorf("got %v, failed %q, %v", ok, failed, problem)
			}
			if test.err != "" && !strings.Contains(problem.Error(), test.err) {
				t.Errorf("got %v, want %q", problem, test.err)
			}
		})
	}
}

func TestCheckConditions(t *testing.T) {
	env, at := &expr.Env{}, field.NewPath("matchConditions")
	for text, want := range map[string]string{
		`true`:               "",
		`1`:                  `matchConditions[0].expression: Invalid value: "1": must evaluate to bool but got int`,
		`object.x ==`:        `matchConditions[0].expression: Invalid value: "object.x ==": compilation failed: ERROR: <input>:1:12: Syntax error`,
		`params.x == 1`:      "undeclared reference to 'params'",
		`variables.x == 1`:   "undeclared reference to 'variables'",
		`request.shape == 1`: "undefined field 'shape'",
	} {
		got := env.CheckConditions(conditions(text), nil, at).ToAggregate()
		if want == "" && got != nil || want != "" && (got == nil || !strings.Contains(got.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, got, want)
		}
	}
}
