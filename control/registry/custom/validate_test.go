package custom

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// unchecked is said when rules were not looked at.
const unchecked = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"

func texts(errs field.ErrorList) string {
	var out []string
	for _, err := range errs {
		out = append(out, err.Error())
	}
	return strings.Join(out, "; ")
}

// TestErrors holds the errors of objects to those of Kubernetes' API server.
func TestErrors(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	for spec, want := range map[string]string{
		`{"size":true}`: `spec.size: Invalid value: "boolean": spec.size in body must be of type integer: "boolean"; ` + unchecked,
		`{"size":21}`:   `spec.size: Invalid value: 21: spec.size in body should be less than or equal to 20`,
		`{"count":-1}`:  `.spec.count: Invalid value: -1: should be a non-negative integer`,
		`{"count":2.0}`: `.spec.count: Invalid value: 0: .spec.count accessor error: 2 is of the type float64, expected int64`,
		`"x"`: `spec: Invalid value: "string": spec in body must be of type object: "string"; ` +
			`.spec.count: Invalid value: 0: .spec.count accessor error: x is of the type string, expected map[string]interface{}; ` + unchecked,
	} {
		if got := texts(k.Validate(crate(t, "v1", spec))); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", spec, got, want)
		}
	}
	// Of a write through /status only the status is looked at.
	old := crate(t, "v1", `{"size":21}`)
	for status, want := range map[string]string{
		`{"count":1}`:    "",
		`{"count":-1}`:   `.status.count: Invalid value: -1: should be a non-negative integer`,
		`{"selector":1}`: `.status.selector: Invalid value: "": .status.selector accessor error: 1 is of the type int64, expected string`,
	} {
		obj := crate(t, "v1", `{"size":21},"status":`+status)
		if got := texts(k.ValidateStatus(obj, old)); got != want {
			t.Errorf("status %s:\ngot  %s\nwant %s", status, got, want)
		}
	}
}

// TestCoerce: what is sent goes through what decoding does to objects with Go
// types.
func TestCoerce(t *testing.T) {
	k := kind(t, definition(t, crates), nil)
	for _, c := range []struct{ given, unknown, err, left string }{
		{given: `{"apiVersion":"test.example/v1","kind":"Crate","metadata":{"name":"a","foo":1},"spec":{"size":1,"sise":2},"extra":1}`,
			unknown: "metadata.foo,extra,spec.sise", left: `{"size":1}`},
		{given: `{"apiVersion":"test.example/v9","kind":"Crate","metadata":{"name":"a"},"spec":{"size":1}}`, unknown: "spec", left: "null"},
		{given: `{"apiVersion":"test.example/v1","kind":"Other","metadata":{"name":"a"},"spec":{"sise":1}}`, left: `{"sise":1}`},
		{given: `{"apiVersion":"test.example/v1","kind":"Crate","metadata":"a"}`, err: "json: cannot unmarshal string into Go value of type v1.ObjectMeta"},
		{given: `{"apiVersion":"test.example/v1","kind":"Crate","metadata":{"labels":{"a":1}}}`,
			err: "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"},
	} {
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON([]byte(c.given)); err != nil {
			t.Fatal(err)
		}
		unknown, err := k.Coerce(obj)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: got error %v, want %s", c.given, err, c.err)
			}
			continue
		}
		if err != nil || strings.Join(unknown, ",") != c.unknown || specOf(t, obj) != c.left {
			t.Errorf("%s: got unknown %v, spec %s, error %v", c.given, unknown, specOf(t, obj), err)
		}
		if meta, ok := obj.Object["metadata"].(map[string]any); !ok || meta["foo"] != nil {
			t.Errorf("%s: metadata %v", c.given, meta)
		}
	}
}

// TestWarnings are of what is new only.
func TestWarnings(t *testing.T) {
	k, definitions := kind(t, definition(t, crates), nil), Definitions()
	held := func(names ...string) *unstructured.Unstructured {
		obj := crate(t, "v1", `{}`)
		obj.SetFinalizers(names)
		return obj
	}
	const advice = " to avoid accidental conflicts with other finalizer writers"
	for _, c := range []struct {
		name     string
		obj, old *unstructured.Unstructured
		want     string
	}{
		{"qualified", held("a.example/b", "foregroundDeletion"), nil, ""},
		{"short", held("a"), nil, `metadata.finalizers: "a": prefer a domain-qualified finalizer name` + advice},
		{"no path", held("a.example"), nil, `metadata.finalizers: "a.example": prefer a domain-qualified finalizer name including a path (/)` + advice},
		{"there before", held("a"), held("a"), ""},
	} {
		if got := strings.Join(k.WarnChange(c.obj, c.old), "; "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	strange := func() *apiextensionsv1.CustomResourceDefinition {
		d := definition(t, strings.NewReplacer("format: date-time", "format: moon", "tags: {type: array, items: {type: string}", "tags: {type: array, items: {type: object}").Replace(crates))
		return d
	}
	want := `unrecognized format "moon"; x-kubernetes-list-type: set for items of type "object" is not supported by server-side apply or CEL validation rules`
	if got := strings.Join(definitions.WarnChange(strange(), nil), "; "); got != want {
		t.Errorf("a new definition: got %s", got)
	}
	if got := definitions.WarnChange(strange(), strange()); len(got) > 0 {
		t.Errorf("nothing new: got %v", got)
	}
}

// TestMarkDeleted: a definition waits for its objects from its deletion on.
func TestMarkDeleted(t *testing.T) {
	d := definition(t, crates)
	kind(t, d, nil)
	if len(d.Finalizers) > 0 {
		t.Errorf("a new definition has the finalizers %v", d.Finalizers)
	}
	d.Generation, d.DeletionTimestamp = 3, &d.CreationTimestamp
	markDeleted(d)
	if len(d.Finalizers) != 1 || d.Generation != 2 || len(d.Status.Conditions) != 1 || d.Status.Conditions[0].Reason != "InstanceDeletionPending" {
		t.Errorf("got %v, generation %d, %v", d.Finalizers, d.Generation, d.Status.Conditions)
	}
}

// TestPublished: what kubectl explain finds of a definition.
func TestPublished(t *testing.T) {
	text := strings.NewReplacer("full: {type: boolean}", "full: {type: boolean}\n                share: {x-kubernetes-int-or-string: true}\n"+
		"                inside: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}",
		"      subresources:", "      selectableFields: [{jsonPath: .spec.size}]\n      subresources:").Replace(crates)
	k := kind(t, definition(t, text), nil)
	model, list := k.published(&k.definition.Spec.Versions[0])
	spec := model.Properties["spec"]
	if share := spec.Properties["share"]; len(share.AnyOf) != 2 {
		t.Errorf("an integer or a string: %+v", share)
	}
	inside := spec.Properties["inside"]
	if _, ok := inside.Properties["metadata"]; !ok || strings.Join(inside.Required, ",") != "kind,apiVersion" {
		t.Errorf("an embedded object: %+v", inside)
	}
	if model.Extensions["x-kubernetes-selectable-fields"] == nil || list.Description != "CrateList is a list of Crate" {
		t.Errorf("the list: %+v", list)
	}
}
