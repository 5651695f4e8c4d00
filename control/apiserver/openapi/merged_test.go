package openapi

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// some are documents that a test changes.
type some struct{ now *map[string][]byte }

func (s *some) Documents() *map[string][]byte { return s.now }

const crates = `{"openapi":"3.0.0","paths":{"/apis/example.com/v1/crates/{name}":{"parameters":[{"name":"name","in":"path","required":true,"schema":{"type":"string","uniqueItems":true}}],
 "get":{"operationId":"readCrate","x-kubernetes-action":"get","responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/com.example.v1.Crate"}}}}}},
 "put":{"operationId":"replaceCrate","requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/com.example.v1.Crate"}}}},"responses":{"200":{}}}}},
"components":{"schemas":{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta":{"type":"object","description":"another's"},
 "com.example.v1.Crate":{"type":"object","x-kubernetes-group-version-kind":[{"group":"example.com","version":"v1","kind":"Crate"}],"properties":{
  "metadata":{"description":"md","allOf":[{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]},
  "spec":{"type":"object","description":"what is wanted","required":["size"],"properties":{
   "size":{"type":"integer","description":"in liters","default":3},"lid":{"type":"string","nullable":true},
   "port":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},
   "open":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"type":"string"}}},
   "list":{"type":"array","items":{"type":"object","properties":{"b":{"type":"string","nullable":true}}}}}}}}}}}`

func ask(t *testing.T, h http.Handler, accept string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/openapi/v2", nil)
	r.Header.Set("Accept", accept)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestVersion2OfOthers: documents that come are part of version 2, in both
// forms, and go again.
func TestVersion2OfOthers(t *testing.T) {
	documents := &some{&map[string][]byte{}}
	h, err := NewHandler(documents, &some{})
	if err != nil {
		t.Fatal(err)
	}
	plain := ask(t, h, "application/json").Header().Get("Etag")
	documents.now = &map[string][]byte{"apis/example.com/v1": []byte(crates), "apis/broken.example/v1": []byte(`{`)}

	answer := ask(t, h, "application/json")
	tag := answer.Header().Get("Etag")
	var doc spec.Swagger
	if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil || tag == plain {
		t.Fatal(err, tag)
	}
	crate := doc.Definitions["com.example.v1.Crate"]
	refersTo := func(s spec.Schema) string { return s.Ref.String() }
	fields := crate.Properties["spec"].Properties
	if refersTo(crate.Properties["metadata"]) != "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" ||
		crate.Extensions["x-kubernetes-group-version-kind"] == nil || fields["size"].Description != "in liters" || fields["size"].Default != nil {
		t.Errorf("crate %+v", crate)
	}
	if len(fields["lid"].Type) != 0 || len(fields["port"].AnyOf) != 0 || len(fields["open"].Properties) != 0 || len(fields["list"].Items.Schema.Properties["b"].Type) != 0 {
		t.Errorf("what version 2 cannot say is said: %+v", fields)
	}
	item := doc.Paths.Paths["/apis/example.com/v1/crates/{name}"]
	if p := item.Parameters[0]; p.In != "path" || p.Type != "string" || !p.Required {
		t.Errorf("parameter %+v", p)
	}
	if got := item.Get.Responses.StatusCodeResponses[200].Schema.Ref.String(); got != "#/definitions/com.example.v1.Crate" || item.Get.Produces[0] != "application/json" {
		t.Errorf("answer %s in %q", got, item.Get.Produces)
	}
	if p := item.Put.Parameters[0]; p.In != "body" || p.Schema.Ref.String() != "#/definitions/com.example.v1.Crate" || item.Put.Consumes[0] != "application/json" {
		t.Errorf("body %+v", p)
	}
	if doc.Definitions["io.k8s.api.core.v1.Pod"].Properties == nil || doc.Definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].Description == "another's" {
		t.Error("what is built in has changed")
	}

	wire := ask(t, h, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "Accept-Encoding", "gzip")
	if wire.Header().Get("Content-Encoding") != "gzip" {
		t.Error("the answer is not packed")
	}
	unpacked, err := gzip.NewReader(wire.Body)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	var parsed openapiv2.Document
	if err := proto.Unmarshal(content, &parsed); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, named := range parsed.Definitions.AdditionalProperties {
		count[named.Name]++
	}
	if len(count) != len(doc.Definitions) || count["com.example.v1.Crate"] != 1 || count["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] != 1 ||
		len(parsed.Paths.Path) != len(doc.Paths.Paths) || parsed.Swagger != "2.0" {
		t.Errorf("%d definitions and %d paths, %d and %d as JSON", len(count), len(parsed.Paths.Path), len(doc.Definitions), len(doc.Paths.Paths))
	}

	if got := ask(t, h, "application/json", "If-None-Match", tag).Code; got != http.StatusNotModified {
		t.Errorf("the same again: %d", got)
	}
	if got := ask(t, h, "text/html").Code; got != http.StatusNotAcceptable {
		t.Errorf("a page: %d", got)
	}
	documents.now = &map[string][]byte{}
	if last := ask(t, h, "application/json"); last.Header().Get("Etag") != plain || strings.Contains(last.Body.String(), "Crate") {
		t.Error("what has gone is still there")
	}
}
