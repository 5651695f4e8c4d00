package registry

import (
	"context"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"wherry.dev/wherry/control/api"
)

// TestWatchEndsWithItsDefinition: a watch that is open when the definition of
// its kind changes does not go on to show objects as they were defined before.
func TestWatchEndsWithItsDefinition(t *testing.T) {
	r := newRegistry(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	sync := func() {
		t.Helper()
		list, err := r.List(ctx, api.CustomResourceDefinitions.Key("", ""), api.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.definitions.sync(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	properties := map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer"}}
	schema := func() *apiextensionsv1.CustomResourceValidation {
		return &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
			Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {Type: "object", Properties: properties}}}}
	}
	definition := create(t, r, api.CustomResourceDefinitions, &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "crates.test.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: "test.example", Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "crates", Singular: "crate", Kind: "Crate", ListKind: "CrateList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: schema()}}}})
	sync()
	crates := api.Key{Group: "test.example", Resource: "crates", Namespace: "default"}
	watch, err := r.Watch(ctx, crates, api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	// What does not change the kind does not end its watches.
	if _, err := r.Patch(ctx, api.CustomResourceDefinitions.KeyOf(definition), api.Patch{Type: "application/merge-patch+json",
		Data: []byte(`{"metadata":{"labels":{"a":"b"}}}`)}, api.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	sync()
	if _, ok, err := watch.(api.Prompt).Ready(ctx); ok || err != nil {
		t.Fatalf("after a label: %v, %v", ok, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := watch.Next(ctx)
		ended <- err
	}()
	latest, err := api.Get[*apiextensionsv1.CustomResourceDefinition](ctx, r, api.CustomResourceDefinitions.KeyOf(definition))
	if err != nil {
		t.Fatal(err)
	}
	changed := latest.DeepCopy()
	properties["colour"] = apiextensionsv1.JSONSchemaProps{Type: "string"}
	changed.Spec.Versions[0].Schema = schema()
	if _, err := r.Update(ctx, api.CustomResourceDefinitions.KeyOf(definition), changed, api.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	sync()
	if err := <-ended; !apierrors.IsResourceExpired(err) {
		t.Fatalf("the watch ended with %v", err)
	}
	list, err := r.List(ctx, crates, api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Watch(ctx, crates, api.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop()
	crate := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.example/v1", "kind": "Crate",
		"metadata": map[string]any{"name": "a", "namespace": "default"}, "spec": map[string]any{"colour": "red"}}}
	if _, err := r.Create(ctx, api.Key{Group: "test.example", Resource: "crates", Namespace: "default", Name: "a"}, crate, api.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	event, err := again.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if colour, _, _ := unstructured.NestedString(event.Object.(*unstructured.Unstructured).Object, "spec", "colour"); colour != "red" {
		t.Errorf("a new watch shows %v", event.Object)
	}
}
