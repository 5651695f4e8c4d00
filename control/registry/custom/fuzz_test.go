package custom

import (
	"encoding/json"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api/apitest"
)

// FuzzDefinition makes a kind of an arbitrary schema, with its CEL rules, and
// takes an arbitrary object through it. What validation lets through can be
// compiled, an object that is valid with its defaults stays so, and memory is
// bounded.
func FuzzDefinition(f *testing.F) {
	for schema, spec := range map[string]string{
		`{"type":"object","properties":{"spec":{"type":"object","properties":{"size":{"type":"integer","maximum":20,"default":3},"tags":{"type":"array","items":{"type":"string"},"x-kubernetes-list-type":"set"}}}}}`:                                                                               `{"size":3,"tags":["a","a"]}`,
		`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-validations":[{"rule":"self.a.all(x, self.a.exists_one(y, y == x))","messageExpression":"'no ' + string(self.a.size())"}],"properties":{"a":{"type":"array","maxItems":9,"items":{"type":"string","maxLength":9}}}}}}`: `{"a":["x","y"]}`,
		`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-embedded-resource":true}}}`:                                                                                                                                                `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`,
		`{"type":"object","properties":{"spec":{"type":"object","additionalProperties":{"type":"string","pattern":"^(a+)+$","nullable":true}}}}`:                                                                                                                                                     `{"b":null,"c":"aaaa"}`,
		`{"type":"object","properties":{"spec":{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{"x-kubernetes-int-or-string":true},"b":{"type":"string","format":"date-time"}}}}}`:                                                                                `{"a":"1%"}`,
		`{"type":"object","properties":{"spec":{"type":"object","properties":{"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}}}}}}`:                                            `{"l":[{"k":"a"},{"k":"a"},{}]}`,
	} {
		f.Add([]byte(schema), []byte(spec), ".spec.size")
	}
	f.Add([]byte(`{"type":"object"}`), []byte(`{}`), ".0,") // no path, but valid
	f.Fuzz(func(t *testing.T, schema, spec []byte, path string) {
		// What CEL is made of is made with the first rule.
		apitest.Bounded(t, 256<<20+64<<10*uint64(len(schema)+len(spec)+len(path)), func() { fuzzDefinition(t, schema, spec, path) })
	})
}

func fuzzDefinition(t *testing.T, schema, spec []byte, path string) {
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal([]byte(crates), d); err != nil {
		t.Fatal(err)
	}
	version := &d.Spec.Versions[0]
	version.Schema = &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{}}
	version.Subresources, d.Spec.Versions = nil, d.Spec.Versions[:1]
	version.AdditionalPrinterColumns = []apiextensionsv1.CustomResourceColumnDefinition{{Name: "Column", Type: "string", JSONPath: path}}
	if json.Unmarshal(schema, version.Schema.OpenAPIV3Schema) != nil {
		return
	}
	var sent any
	if json.Unmarshal(spec, &sent) != nil {
		return
	}
	strategy := Definitions()
	strategy.Default(d)
	strategy.Create(d)
	if len(strategy.Validate(d)) > 0 {
		return
	}
	k, err := New(d, nil)
	if err != nil {
		t.Fatalf("a definition without mistakes makes no kind: %v", err)
	}
	obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.example/v1", "kind": "Crate",
		"metadata": map[string]any{"name": "a", "namespace": "default"}, "spec": sent}}
	if _, err := k.Coerce(obj); err != nil {
		return
	}
	k.Default(obj)
	k.Row(obj, time.Now())
	if len(k.Validate(obj)) > 0 {
		return
	}
	again := obj.DeepCopy()
	k.Default(again)
	if errs := k.Validate(again); len(errs) > 0 {
		t.Errorf("valid, and with its defaults once more it is not: %v", errs)
	}
	k.ValidateUpdate(again, obj) // a rule may want it to be another one
}
