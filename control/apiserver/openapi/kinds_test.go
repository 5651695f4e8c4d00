package openapi

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/spec3"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// TestEveryServedKindIsDescribed: kubectl explain looks a kind up by its mark
// on the operations of the third version, kubectl apply by its mark on the
// definitions of the second. What is served and not described means that
// somebody has to run go generate.
func TestEveryServedKindIsDescribed(t *testing.T) {
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(registry.Config{Types: types, Store: store.New(store.NewMemory(), store.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	marked := map[string]bool{}
	for name, definition := range swagger(t).Definitions {
		for _, kind := range kindsOf(definition.Extensions["x-kubernetes-group-version-kind"]) {
			marked[kind] = true
			if len(definition.Properties) == 0 {
				t.Errorf("%s has no properties", name)
			}
		}
	}
	docs := map[string]*spec3.OpenAPI{}
	for _, res := range append(r.Catalog().Resources(), api.NodeMetrics, api.PodMetrics) {
		path, root := "apis/"+res.GroupVersion(), "/apis/"+res.GroupVersion()
		if res.Group == "" {
			path, root = "api/"+res.Version, "/api/"+res.Version
		}
		if docs[path] == nil {
			docs[path] = &spec3.OpenAPI{}
			if err := json.Unmarshal(get(t, "/openapi/v3/"+path).Body.Bytes(), docs[path]); err != nil {
				t.Fatalf("%s: %v: run go generate ./control/apiserver/openapi", path, err)
			}
		}
		if res.Namespaced {
			root += "/namespaces/{namespace}"
		}
		key := res.Group + "/" + res.Version + "/" + res.Kind
		if !marked[key] {
			t.Errorf("no definition of %s in v2: run go generate ./control/apiserver/openapi", key)
		}
		collection := docs[path].Paths.Paths[root+"/"+res.Name]
		if collection == nil || collection.Post == nil == res.Can("create") || collection.Get == nil == res.Can("list") {
			t.Errorf("the operations of %s/%s do not fit its verbs: run go generate ./control/apiserver/openapi", root, res.Name)
			continue
		}
		if op := collection.Post; op != nil && strings.Join(kindsOf([]any{op.Extensions["x-kubernetes-group-version-kind"]}), "") != key {
			t.Errorf("%s/%s: %v", root, res.Name, op.Extensions)
		}
		for _, sub := range res.Subresources {
			if docs[path].Paths.Paths[root+"/"+res.Name+"/{name}/"+sub.Name] == nil {
				t.Errorf("no path of %s/%s/%s: run go generate ./control/apiserver/openapi", root, res.Name, sub.Name)
			}
		}
	}
}

// kindsOf reads the marks of a schema or operation.
func kindsOf(extension any) (out []string) {
	list, _ := extension.([]any)
	for _, entry := range list {
		if kind, ok := entry.(map[string]any); ok {
			out = append(out, kind["group"].(string)+"/"+kind["version"].(string)+"/"+kind["kind"].(string))
		}
	}
	return out
}
