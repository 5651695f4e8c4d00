package custom

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const crates = `
metadata: {name: crates.test.example}
spec:
  group: test.example
  scope: Namespaced
  names: {plural: crates, singular: crate, kind: Crate, listKind: CrateList}
  conversion: {strategy: None}
  versions:
    - name: v1
      served: true
      storage: true
      subresources:
        status: {}
        scale: {specReplicasPath: .spec.count, statusReplicasPath: .status.count, labelSelectorPath: .status.selector}
      additionalPrinterColumns:
        - {name: Size, type: integer, jsonPath: .spec.size}
        - {name: Tags, type: string, jsonPath: ".spec.tags[*]"}
        - {name: Packed, type: date, jsonPath: .spec.packed}
        - {name: Full, type: boolean, jsonPath: .spec.full}
        - {name: Weight, type: number, jsonPath: .spec.weight}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              x-kubernetes-validations:
                - {rule: "!has(self.size) || self.size != 13", message: unlucky}
              properties:
                size: {type: integer, maximum: 20}
                count: {type: integer, default: 1}
                weight: {type: number}
                full: {type: boolean}
                packed: {type: string, format: date-time}
                tags: {type: array, items: {type: string}, x-kubernetes-list-type: set}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
    - name: v2
      served: true
      storage: false
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {size: {type: integer}, colour: {type: string, default: brown}}}
`

func definition(t *testing.T, text string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func kind(t *testing.T, d *apiextensionsv1.CustomResourceDefinition, convert Converter) *Kind {
	t.Helper()
	strategy := Definitions()
	strategy.Default(d)
	strategy.Create(d)
	if errs := strategy.Validate(d); len(errs) > 0 {
		t.Fatal(errs)
	}
	k, err := New(d, convert)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func crate(t *testing.T, version, spec string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	text := `{"apiVersion":"test.example/` + version + `","kind":"Crate","metadata":{"name":"a","namespace":"default"},"spec":` + spec + `}`
	if err := obj.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return obj
}

// specOf renders the spec of an object.
func specOf(t *testing.T, obj *unstructured.Unstructured) string {
	t.Helper()
	text, err := json.Marshal(obj.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestValidation(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	for given, want := range map[string]string{
		`{"size":3}`:             "",
		`{"size":"3"}`:           `spec.size in body must be of type integer: "string"`,
		`{"size":21}`:            "spec.size in body should be less than or equal to 20",
		`{"size":13}`:            "unlucky",
		`{"tags":["a","b","a"]}`: `spec.tags[2]: Duplicate value: "a"`,
		`{"packed":"yesterday"}`: "must be of type date-time",
	} {
		if got := k.Validate(crate(t, "v1", given)).ToAggregate(); want == "" && got != nil || want != "" && (got == nil || !strings.Contains(got.Error(), want)) {
			t.Errorf("%s: got %v, want %q", given, got, want)
		}
	}
}

// TestRatcheting: what was wrong before and has not changed is let through.
func TestRatcheting(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	old := crate(t, "v1", `{"size":21}`)
	if errs := k.ValidateUpdate(crate(t, "v1", `{"size":21,"full":true}`), old); len(errs) > 0 {
		t.Errorf("an unchanged mistake: %v", errs)
	}
	if errs := k.ValidateUpdate(crate(t, "v1", `{"size":22}`), old); len(errs) != 1 {
		t.Errorf("a changed mistake: %v", errs)
	}
}

func TestCompleteAndUnknown(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	obj := crate(t, "v1", `{"size":3,"sise":4,"full":null}`)
	if got, err := k.Coerce(obj); err != nil || len(got) != 1 || got[0] != "spec.sise" {
		t.Errorf("unknown: %v, %v", got, err)
	}
	k.Default(obj)
	if got, want := specOf(t, obj), `{"count":1,"size":3}`; got != want {
		t.Errorf("completed to %s, want %s", got, want)
	}
}

func TestStatusDoor(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	old := crate(t, "v1", `{"size":1}`)
	old.Object["status"] = map[string]any{"count": int64(1)}
	obj := crate(t, "v1", `{"size":2}`)
	obj.Object["status"] = map[string]any{"count": int64(2)}
	obj.SetLabels(map[string]string{"a": "b"})
	through := obj.DeepCopy()
	k.Update(through, old)
	if n := number(through, ".status.count"); n != 1 || !k.Changed(through, old) {
		t.Errorf("an update wrote the status: %v", through)
	}
	through = obj.DeepCopy()
	k.UpdateStatus(through, old)
	if n := number(through, ".status.count"); n != 2 || specOf(t, through) != `{"size":1}` || through.GetLabels() != nil || k.Changed(through, old) {
		t.Errorf("a status update wrote more: %v", through)
	}
}

func TestScale(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	obj := crate(t, "v1", `{"count":3}`)
	obj.Object["status"] = map[string]any{"count": int64(2), "selector": "app=a"}
	if status := k.Scale.Status(obj); *k.Scale.Replicas(obj) != 3 || status.Replicas != 2 || status.Selector != "app=a" {
		t.Errorf("got %d, %+v", *k.Scale.Replicas(obj), status)
	}
	k.Scale.Set(obj, 5)
	if got := specOf(t, obj); got != `{"count":5}` {
		t.Errorf("scaled to %s", got)
	}
}

func TestColumns(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	now := time.Date(2030, 1, 1, 0, 10, 0, 0, time.UTC)
	row := k.Row(crate(t, "v1", `{"size":3,"tags":["x","y"],"packed":"2030-01-01T00:00:00Z","full":true,"weight":2}`), now)
	for i, want := range []any{"a", int64(3), "x", "10m", true, float64(2)} {
		if row[i] != want {
			t.Errorf("column %s is %v, want %v", k.Columns[i].Name, row[i], want)
		}
	}
	row = k.Row(crate(t, "v1", `{"size":"3","packed":"never"}`), now)
	for i, want := range []any{"a", nil, nil, "<invalid>", nil, nil} {
		if row[i] != want && !(want == nil && row[i] == "") {
			t.Errorf("column %s is %v, want %v", k.Columns[i].Name, row[i], want)
		}
	}
}

func TestVersions(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	if len(k.Versions) != 1 || k.Versions[0].Resource.Hub.Version != "v1" {
		t.Fatalf("versions %+v", k.Versions)
	}
	v2 := k.Versions[0]
	out, err := v2.FromHub(t.Context(), crate(t, "v1", `{"size":3,"count":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := specOf(t, out.(*unstructured.Unstructured)); got != `{"colour":"brown","size":3}` {
		t.Errorf("as v2: %s", got)
	}
	hub, err := v2.ToHub(t.Context(), crate(t, "v2", `{"size":3}`))
	if err != nil || hub.GetAPIVersion() != "test.example/v1" {
		t.Errorf("to the hub: %v, %v", hub, err)
	}
}

// TestStoredVersionChanges: objects from before are read as the version that is
// stored now, by the webhook where there is one.
func TestStoredVersionChanges(t *testing.T) {
	d := definition(t, crates)
	old := kind(t, d, nil)
	data, err := old.Codec.Encode(crate(t, "v1", `{"size":3}`))
	if err != nil {
		t.Fatal(err)
	}
	d = d.DeepCopy()
	d.Spec.Versions[0].Storage, d.Spec.Versions[1].Storage = false, true
	now, err := kind(t, d, nil).Codec.Decode(data)
	if err != nil || specOf(t, now.(*unstructured.Unstructured)) != `{"colour":"brown","size":3}` {
		t.Errorf("read as %v, %v", now, err)
	}
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{ConversionReviewVersions: []string{"v1"}}}
	failing, err := New(d, func(context.Context, *apiextensionsv1.WebhookConversion, string, ...*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		return nil, errors.New("out of order")
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := failing.Codec.Decode(data); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("got %v", err)
	}
}

func TestDefinitionErrors(t *testing.T) {
	strategy := Definitions()
	for name, test := range map[string]struct {
		change func(*apiextensionsv1.CustomResourceDefinition)
		want   string
	}{
		"name":           {func(d *apiextensionsv1.CustomResourceDefinition) { d.Name = "boxes.test.example" }, "must be spec.names.plural+\".\"+spec.group"},
		"two are stored": {func(d *apiextensionsv1.CustomResourceDefinition) { d.Spec.Versions[1].Storage = true }, "must have exactly one version marked as storage version"},
		"no rule":        {func(d *apiextensionsv1.CustomResourceDefinition) { rules(d)[0].Rule = "self.size +" }, "Syntax error"},
		"unknown field":  {func(d *apiextensionsv1.CustomResourceDefinition) { rules(d)[0].Rule = "self.sise == 1" }, "undefined field 'sise'"},
		"no structure":   {func(d *apiextensionsv1.CustomResourceDefinition) { d.Spec.Versions[0].Schema.OpenAPIV3Schema.Type = "" }, "must not be empty at the root"},
		"protected group": {func(d *apiextensionsv1.CustomResourceDefinition) {
			d.Spec.Group, d.Name = "x.k8s.io", "crates.x.k8s.io"
		}, "protected groups must have approval annotation"},
	} {
		d := definition(t, crates)
		strategy.Default(d)
		test.change(d)
		if got := strategy.Validate(d).ToAggregate(); got == nil || !strings.Contains(got.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, got, test.want)
		}
	}
}

func rules(d *apiextensionsv1.CustomResourceDefinition) apiextensionsv1.ValidationRules {
	return d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].XValidations
}

func TestDocuments(t *testing.T) {
	documents, err := Documents([]*Kind{kind(t, definition(t, crates), nil)})
	if err != nil || len(documents) != 2 {
		t.Fatalf("%d documents, %v", len(documents), err)
	}
	var document struct {
		Paths      map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(documents["apis/test.example/v1"], &document); err != nil {
		t.Fatal(err)
	}
	if document.Paths["/apis/test.example/v1/namespaces/{namespace}/crates/{name}/status"] == nil || document.Components.Schemas["example.test.v1.Crate"] == nil {
		t.Errorf("the document lacks something: %s", documents["apis/test.example/v1"])
	}
}
