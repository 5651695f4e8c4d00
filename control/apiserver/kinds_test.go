package apiserver_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
)

// crates are a kind without a Go type.
var crates = api.Resource{Group: "test.example", Version: "v1", Name: "crates", Singular: "crate", Kind: "Crate", Namespaced: true}

// crateClient knows one crate and keeps what is created.
type crateClient struct {
	api.Client
	made *unstructured.Unstructured
}

func (c *crateClient) crate() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.example/v1", "kind": "Crate",
		"metadata": map[string]any{"name": "a", "namespace": "default"}, "spec": map[string]any{"size": int64(3)}}}
}

func (c *crateClient) Get(context.Context, api.Key, api.GetOptions) (api.Object, error) {
	return c.crate(), nil
}

func (c *crateClient) List(context.Context, api.Key, api.ListOptions) (*api.List, error) {
	return &api.List{Items: []api.Object{c.crate()}, ResourceVersion: "7"}, nil
}

func (c *crateClient) Create(_ context.Context, _ api.Key, obj api.Object, _ api.CreateOptions) (api.Object, error) {
	c.made = obj.(*unstructured.Unstructured)
	return c.made, nil
}

func (c *crateClient) Table(_ context.Context, _ api.Resource, objs []api.Object) (*metav1.Table, error) {
	return &metav1.Table{Rows: make([]metav1.TableRow, len(objs))}, nil
}

func TestKindsChangeWhileServing(t *testing.T) {
	kinds := &api.Catalogs{}
	kinds.Set(api.NewCatalog([]api.Resource{api.ConfigMaps}))
	client := &crateClient{}
	c := newCluster(t, func(config *apiserver.Config) { config.Kinds, config.Client, config.Tables = kinds, client, client })
	web := c.http(c.admin)
	const path = "/apis/test.example/v1/namespaces/default/crates"
	do := func(method, path, accept, body string) (int, string, http.Header) {
		t.Helper()
		got := c.ask(web, method, path, body, "Accept: "+accept, "Content-Type: application/yaml")
		return got.code, got.body, got.header
	}
	const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	_, _, before := do("GET", "/apis", aggregated, "")
	if code, _, _ := do("GET", path+"/a", "", ""); code != http.StatusNotFound {
		t.Errorf("a kind that is not served: %d", code)
	}
	kinds.Set(api.NewCatalog([]api.Resource{api.ConfigMaps, crates}))
	_, groups, after := do("GET", "/apis", aggregated, "")
	if before.Get("Etag") == after.Get("Etag") || !strings.Contains(groups, `"crates"`) {
		t.Errorf("discovery did not change: %s", groups)
	}
	for accept, want := range map[string]string{
		"application/json": `"size":3`, "application/yaml": "size: 3", "application/cbor": "Dsize\x03", "": `"kind":"Crate"`,
		"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1": `"kind":"PartialObjectMetadata"`,
		"application/json;as=Table;g=meta.k8s.io;v=v1":                 `"kind":"Table"`,
		"application/vnd.kubernetes.protobuf,application/json":         `"size":3`,
	} {
		if code, body, _ := do("GET", path+"/a", accept, ""); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("get as %q: %d %q, want %q", accept, code, body, want)
		}
	}
	if code, _, _ := do("GET", path+"/a", runtime.ContentTypeProtobuf, ""); code != http.StatusNotAcceptable {
		t.Errorf("get as protobuf: %d, want 406", code)
	}
	if code, body, _ := do("GET", path, "application/json", ""); code != http.StatusOK || !strings.Contains(body, `"kind":"CrateList"`) || !strings.Contains(body, `"resourceVersion":"7"`) {
		t.Errorf("list: %d %s", code, body)
	}
	code, body, _ := do("POST", path, "application/json", "apiVersion: test.example/v1\nkind: Crate\nmetadata: {name: b}\nspec: {size: 5}\n")
	if code != http.StatusCreated || client.made.GetName() != "b" {
		t.Errorf("create: %d %s", code, body)
	}
	if code, body, _ := do("POST", path+"?fieldValidation=Strict", "application/json", "apiVersion: test.example/v1\nkind: Crate\nmetadata: {name: b}\nspec: {size: 5, size: 6}\n"); code != http.StatusBadRequest || !strings.Contains(body, "already set") {
		t.Errorf("create with a field twice: %d %s", code, body)
	}
	kinds.Set(api.NewCatalog([]api.Resource{api.ConfigMaps}))
	if code, _, _ := do("GET", path+"/a", "", ""); code != http.StatusNotFound {
		t.Errorf("a kind that is no longer served: %d", code)
	}
}
