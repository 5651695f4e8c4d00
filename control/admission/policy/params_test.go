package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// TestParametersOfACustomKind: parameters in custom resources, of the version
// that the policy names, by name and by labels; a change counts at once.
func TestParametersOfACustomKind(t *testing.T) {
	b := newBed(t)
	background(t, b.api.Run)
	b.must(api.CustomResourceDefinitions, object(t, &apiextensionsv1.CustomResourceDefinition{}, `
metadata: {name: limits.rules.example}
spec:
  group: rules.example
  scope: Namespaced
  names: {plural: limits, kind: Limit}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {max: {type: integer}, words: {type: array, items: {type: string}}}}}
  - name: v1beta1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, properties: {max: {type: integer}, words: {type: array, items: {type: string}}}}}
`))
	var limits api.Resource
	eventually(t, func() (ok bool) {
		limits, ok = b.api.Catalog().OfKind(schema.GroupVersionKind{Group: "rules.example", Version: "v1", Kind: "Limit"})
		return ok
	})
	limit := func(name string, max int64, words ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "rules.example/v1", "kind": "Limit",
			"metadata": map[string]any{"namespace": "default", "name": name, "labels": map[string]any{"kind": "limit"}}, "max": max, "words": words}}
	}
	one := b.must(limits, limit("one", 1, "good")).(*unstructured.Unstructured)
	b.policy("p", "paramKind: {apiVersion: rules.example/v1beta1, kind: Limit}\nvalidations:\n"+
		"- {expression: \"size(object.data) <= params.max\", messageExpression: \"'at most ' + string(params.max) + ', says ' + params.apiVersion + ' ' + params.metadata.name\"}\n"+
		"- {expression: \"object.data.all(k, object.data[k] in params.words)\", message: not such a word}")
	b.binding("b", "p", deny+"\nparamRef: {name: one, parameterNotFoundAction: Deny}")
	const refused = `configmaps "m" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: `
	_, err := b.create(api.ConfigMaps, configMap("m", "a", "good", "b", "good"))
	b.wantRefusal(err, metav1.StatusReasonInvalid, refused+"at most 1, says rules.example/v1beta1 one")
	_, err = b.create(api.ConfigMaps, configMap("m", "a", "bad"))
	b.wantRefusal(err, metav1.StatusReasonInvalid, refused+"not such a word")
	b.must(api.ConfigMaps, configMap("fine", "a", "good"))

	next := one.DeepCopy()
	next.Object["max"] = int64(2)
	if _, err := b.api.Update(t.Context(), limits.KeyOf(next), next, api.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.must(api.ConfigMaps, configMap("two", "a", "good", "b", "good"))

	// By labels: all that are found have to agree.
	b.policy("q", "paramKind: {apiVersion: rules.example/v1, kind: Limit}\nvalidations: [{expression: \"size(object.data) < params.max\", messageExpression: \"'by ' + params.metadata.name\"}]")
	b.binding("c", "q", deny+"\nparamRef: {selector: {matchLabels: {kind: limit}}, parameterNotFoundAction: Deny}")
	b.must(limits, limit("zero", 0))
	_, err = b.create(api.ConfigMaps, configMap("m", "a", "good"))
	b.wantRefusal(err, metav1.StatusReasonInvalid, `configmaps "m" is forbidden: ValidatingAdmissionPolicy 'q' with binding 'c' denied request: by zero`)
}

// TestMetrics: failures are counted by what is done about them, errors by
// their kind, and what passes not at all.
func TestMetrics(t *testing.T) {
	b := newBed(t)
	registry := prometheus.NewRegistry()
	b.metrics.Register(registry)
	b.policy("p", `validations: [{expression: "object.metadata.name != 'bad'"}, {expression: "object.metadata.name != 'broken' || object.data.none == ''"}]`)
	b.binding("b", "p", "validationActions: [Deny, Audit]")
	b.binding("w", "p", "validationActions: [Warn]")
	b.policy("lax", "failurePolicy: Ignore\nvalidations: [{expression: \"object.metadata.name != 'broken' || object.data.none == ''\"}]")
	b.binding("l", "lax", deny)
	b.must(api.ConfigMaps, configMap("good"))
	for _, name := range []string{"bad", "bad", "broken"} {
		if _, err := b.create(api.ConfigMaps, configMap(name)); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	counts(t, registry, "apiserver_validating_admission_policy_check_total",
		"enforcement_action=allow error_type=invalid_error policy=lax policy_binding=l 1",
		"enforcement_action=audit error_type=invalid_error policy=p policy_binding=b 1",
		"enforcement_action=audit error_type=no_error policy=p policy_binding=b 2",
		"enforcement_action=deny error_type=invalid_error policy=p policy_binding=b 1",
		"enforcement_action=deny error_type=no_error policy=p policy_binding=b 2",
		"enforcement_action=warn error_type=invalid_error policy=p policy_binding=w 1",
		"enforcement_action=warn error_type=no_error policy=p policy_binding=w 2")
}

// TestMetricsOfNotes: an audit annotation that cannot be made counts as what it
// does, a refusal, whatever the binding says.
func TestMetricsOfNotes(t *testing.T) {
	b := newBed(t)
	registry := prometheus.NewRegistry()
	b.metrics.Register(registry)
	b.policy("p", `auditAnnotations: [{key: k, valueExpression: "string(object.data.none)"}]`)
	b.binding("b", "p", "validationActions: [Audit]")
	if _, err := b.create(api.ConfigMaps, configMap("bad")); err == nil {
		t.Error("a note that cannot be made passes")
	}
	counts(t, registry, "apiserver_validating_admission_policy_check_total",
		"enforcement_action=deny error_type=invalid_error policy=p policy_binding=b 1")
}

// TestMetricsOfMutations: each mutation counts, by what became of it.
func TestMetricsOfMutations(t *testing.T) {
	b := newBed(t)
	registry := prometheus.NewRegistry()
	b.metrics.Register(registry)
	b.mutation("p", "configmaps", change("[JSONPatch{op: 'add', path: '/data/b', value: object.data.a}]"), "")
	b.must(api.ConfigMaps, configMap("good", "a", "x"))
	if _, err := b.create(api.ConfigMaps, configMap("bad")); err == nil {
		t.Error("a mutation that cannot be made passes")
	}
	counts(t, registry, "apiserver_mutating_admission_policy_check_total",
		"error_type=invalid_error policy=p policy_binding=p-binding 1", "error_type=no_error policy=p policy_binding=p-binding 1")
}

// counts holds the values of a counter, each with its labels.
func counts(t *testing.T, registry *prometheus.Registry, name string, want ...string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() { // in the order of their names
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			got = append(got, fmt.Sprint(strings.Join(labels, " "), " ", m.GetCounter().GetValue()))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
