package expr_test

import (
	"context"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/api/apitest"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// FuzzExpression checks an arbitrary CEL expression as a condition, a variable
// and a patch, and judges a request by it: no panic, and no expression that
// runs without an end.
func FuzzExpression(f *testing.F) {
	for _, text := range []string{
		`object.data.colour == "red" && object.metadata.labels["a"] == "b"`, `oldObject == null || request.dryRun`,
		`authorizer.group("").resource("pods").namespace("x").check("get").allowed()`, `object.data.map(k, k + k).size() > 3`,
		`[1,2,3].all(x, [1,2,3].exists(y, x*y == 6))`, `"aaaaaaaaaaaaaaaaaaaa".matches("(a+)+$")`, `quantity("1Gi").isGreaterThan(quantity("1M"))`,
		`ip("127.0.0.1").family() == 4 && cidr("10.0.0.0/8").containsIP("10.1.1.1")`, `url("https://a/b?c=d").getQuery()["c"] == ["d"]`,
		`[JSONPatch{op: "add", path: "/data/x", value: "y"}]`, `Object{data: Object.data{"x": "y"}}`, `variables.v.size() > 0`,
		`format.dns1123Label().validate("a").hasValue()`, `semver("1.2.3").isLessThan(semver("2.0.0"))`, `timestamp("2026-01-01T00:00:00Z") + duration("1h") > timestamp(0)`,
		`object.data.transformMap(k, v, v.split("")).size() == 1`, `9223372036854775807 + 1 > 0`, `1 / 0 == 1`, `[[[[]]]] == {}`,
	} {
		f.Add(text)
	}
	env, at := &expr.Env{}, field.NewPath("spec")
	var in *expr.Input
	reg := registrytest.New(f, registry.Config{Admission: registrytest.Judge(func(ctx context.Context, r *api.AdmissionRequest) (err error) {
		if r.Is(api.ConfigMaps, api.Create) && r.Key.Name == "one" {
			in, err = expr.NewInput(ctx, r, r.Views.Served()[0], readers("ann"))
		}
		return err
	})})
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: "default", Labels: map[string]string{"a": "b"}},
		Data: map[string]string{"colour": "red"}}
	if _, err := reg.Create(auth.WithUser(f.Context(), auth.User{Name: "ann"}), api.ConfigMaps.KeyOf(obj), obj, api.CreateOptions{}); err != nil || in == nil {
		f.Fatal(in, err)
	}
	checker, err := env.Checker(true, map[string]bool{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		apitest.Bounded(t, 64<<20+64<<10*uint64(len(text)), func() {
			checker.Check(expr.Text(text), true, false, at)
			checker.Check(expr.JSONPatch(text), true, true, at)
			checker.Check(expr.ApplyConfiguration(text), true, true, at)
		})
		if len(env.CheckConditions(conditions(text), nil, at)) > 0 {
			return
		}
		begun := time.Now()
		var err error
		apitest.Bounded(t, 1<<30, func() { _, _, err = env.Conditions(conditions(text)).Match(t.Context(), in) }) // CEL's budget bounds it
		if lasted := time.Since(begun); lasted > time.Minute {
			t.Errorf("it took %s, and gave %v", lasted, err)
		}
		if program, err := env.Program([]admissionregistrationv1.Variable{{Name: "v", Expression: text}}, false); err == nil {
			_, _, _ = program.Conditions(conditions("variables.v == variables.v")).MatchWith(program.Context(t.Context()), in, nil)
		}
	})
}
