package openapi

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

func get(t *testing.T, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := NewHandler()
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodGet, path, nil)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request)
	return w
}

func swagger(t *testing.T) *spec.Swagger {
	t.Helper()
	var doc spec.Swagger
	if err := json.Unmarshal(get(t, "/openapi/v2").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return &doc
}

// TestPatchMetadata: kubectl apply merges lists by what v2 says of them.
func TestPatchMetadata(t *testing.T) {
	containers := swagger(t).Definitions["io.k8s.api.core.v1.PodSpec"].Properties["containers"]
	if got, _ := containers.Extensions.GetString("x-kubernetes-patch-merge-key"); got != "name" {
		t.Errorf("merge key of containers %q", got)
	}
	if got, _ := containers.Extensions.GetString("x-kubernetes-patch-strategy"); got != "merge" {
		t.Errorf("patch strategy of containers %q", got)
	}
	for name, definition := range swagger(t).Definitions {
		for field, property := range definition.Properties {
			if property.Default != nil {
				t.Errorf("%s.%s has a default, which v2 must not have", name, field)
			}
		}
	}
}

// TestEveryReferenceResolves: pruning has left no hole, and nothing is there
// that nobody refers to.
func TestEveryReferenceResolves(t *testing.T) {
	raw := get(t, "/openapi/v2").Body.String()
	doc := swagger(t)
	used := map[string]bool{}
	for _, part := range strings.Split(raw, `"$ref":"#/definitions/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		used[name] = true
		if _, ok := doc.Definitions[name]; !ok {
			t.Errorf("%s is not defined", name)
		}
	}
	for name := range doc.Definitions {
		if !used[name] {
			t.Errorf("%s is defined and not used", name)
		}
	}
}

func TestKindsAreMarked(t *testing.T) {
	doc := swagger(t)
	for definition, kind := range map[string]string{
		"io.k8s.api.apps.v1.Deployment": "Deployment", "io.k8s.api.core.v1.PodList": "PodList",
		"io.k8s.api.discovery.v1.EndpointSlice": "EndpointSlice", "io.k8s.api.autoscaling.v1.Scale": "Scale",
	} {
		kinds, _ := doc.Definitions[definition].Extensions["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 || kinds[0].(map[string]any)["kind"] != kind {
			t.Errorf("%s: %v", definition, kinds)
		}
	}
	patch := doc.Paths.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"].Patch
	if patch == nil || patch.ID != "patchAppsV1NamespacedDeployment" {
		t.Fatalf("patch of deployments: %+v", patch)
	}
	if action, _ := patch.Extensions.GetString("x-kubernetes-action"); action != "patch" {
		t.Errorf("action %q", action)
	}
}

func TestIndexLeadsToDocuments(t *testing.T) {
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(get(t, "/openapi/v3").Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Paths) < 4 {
		t.Fatalf("paths %v", index.Paths)
	}
	for _, path := range []string{"api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version", ".well-known/openid-configuration", "openid/v1/jwks"} {
		if index.Paths[path].URL == "" {
			t.Errorf("the index has no %s", path)
		}
	}
	tag := get(t, "/openapi/v3").Header().Get("Etag")
	if again := get(t, "/openapi/v3", "If-None-Match: "+tag); tag == "" || again.Code != http.StatusNotModified {
		t.Errorf("known index (%s): %d", tag, again.Code)
	}
	for path, entry := range index.Paths {
		w := get(t, entry.URL)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		protobuf := get(t, entry.URL, "Accept: application/com.github.proto-openapi.spec.v3@v1.0+protobuf")
		var doc openapiv3.Document
		if err := proto.Unmarshal(protobuf.Body.Bytes(), &doc); err != nil || len(doc.GetPaths().GetPath()) == 0 {
			t.Errorf("%s as protobuf: %v", path, err)
		}
		stale := get(t, "/openapi/v3/"+path+"?hash=0")
		if stale.Code != http.StatusMovedPermanently || stale.Header().Get("Location") != entry.URL {
			t.Errorf("%s of another hash: %d %v", path, stale.Code, stale.Header())
		}
	}
}

func TestForms(t *testing.T) {
	for _, test := range []struct{ path, accept, want string }{
		{"/openapi/v2", "", "application/json"},
		{"/openapi/v2", "*/*", "application/json"},
		{"/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"},
		{"/openapi/v2", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"},
		{"/openapi/v2", "application/yaml;q=0.9,application/json;q=0.5", "application/json"},
	} {
		if got := get(t, test.path, "Accept: "+test.accept).Header().Get("Content-Type"); got != test.want {
			t.Errorf("%s as %s: %q", test.path, test.accept, got)
		}
	}
	if w := get(t, "/openapi/v2", "Accept: image/png"); w.Code != http.StatusNotAcceptable {
		t.Errorf("image: %d", w.Code)
	}
	if w := get(t, "/openapi/v3/apis/nosuch/v1"); w.Code != http.StatusNotFound {
		t.Errorf("unknown group: %d", w.Code)
	}
	w := get(t, "/openapi/v2", "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "Accept-Encoding: gzip")
	if w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatal("not sent as it is kept")
	}
	plain, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	var doc openapiv2.Document
	if err := proto.Unmarshal(data, &doc); err != nil || len(doc.GetDefinitions().GetAdditionalProperties()) == 0 {
		t.Fatalf("protobuf: %v", err)
	}
	if again := get(t, "/openapi/v2", "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "If-None-Match: "+w.Header().Get("Etag")); again.Code != http.StatusNotModified {
		t.Errorf("known document: %d", again.Code)
	}
}

func TestSize(t *testing.T) {
	var total int64
	err := fs.WalkDir(data, ".", func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > 2<<20 {
		t.Errorf("the embedded documents have grown to %d bytes", total)
	}
}
