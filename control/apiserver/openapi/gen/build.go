package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	openapibuilder "k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/schemamutation"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// served are the resources that get paths; what they consist of gets
// definitions. They are those of the registry, so that no kind is forgotten, and
// what the nodes are asked for.
func served(types *api.Types) ([]api.Resource, error) {
	r, err := registry.New(registry.Config{Types: types, Store: store.New(store.NewMemory(), store.Options{})})
	if err != nil {
		return nil, err
	}
	return append(r.Catalog().Resources(), api.NodeMetrics, api.PodMetrics), nil
}

// builder makes the documents.
type builder struct {
	types                        *api.Types
	served                       []api.Resource
	kinds                        map[string][]any // definition name to its group, version, kind entries
	deleteOptions, status, patch any
}

func newBuilder(types *api.Types) (*builder, error) {
	resources, err := served(types)
	if err != nil {
		return nil, err
	}
	b := &builder{types: types, served: resources, kinds: map[string][]any{},
		deleteOptions: metav1.DeleteOptions{}, status: metav1.Status{}, patch: metav1.Patch{}}
	groups := map[schema.GroupVersion]bool{{Version: "v1"}: true, {Group: "autoscaling", Version: "v1"}: true}
	for _, res := range b.served {
		groups[schema.GroupVersion{Group: res.Group, Version: res.Version}] = true
	}
	known := types.Scheme.AllKnownTypes()
	for _, gvk := range slices.SortedFunc(maps.Keys(known), func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) }) {
		if groups[gvk.GroupVersion()] {
			name := util.GetCanonicalTypeName(reflect.New(known[gvk]).Elem().Interface())
			b.kinds[name] = append(b.kinds[name], gvkOf(gvk))
		}
	}
	return b, nil
}

func gvkOf(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// sample is a value of the type, as the builders look types up.
func (b *builder) sample(obj any) any { return reflect.ValueOf(obj).Elem().Interface() }

// models are the types of a kind and of its list, nil where there is none.
func (b *builder) models(res api.Resource) (object, list any, err error) {
	one, err := b.types.Scheme.New(res.GVK())
	if err != nil {
		return nil, nil, err
	}
	if !res.Can("list") {
		return b.sample(one), nil, nil
	}
	gvk := res.GVK()
	gvk.Kind += "List"
	many, err := b.types.Scheme.New(gvk)
	if err != nil {
		return nil, nil, err
	}
	return b.sample(one), b.sample(many), nil
}

func (b *builder) definitionName(name string) (string, spec.Extensions) {
	short := name[strings.LastIndex(name, "/")+1:]
	if kinds := b.kinds[name]; len(kinds) > 0 {
		return short, spec.Extensions{"x-kubernetes-group-version-kind": kinds}
	}
	return short, nil
}

func info() *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "v1.37"}}
}

// index tells package openapi what there is; the hashes are those of the JSON
// forms.
type index struct {
	V2 string            `json:"v2"`
	V3 map[string]string `json:"v3"` // by path below /openapi/v3: "api/v1"
}

// secondPass writes the documents below dir.
func secondPass(dir string) error {
	types, err := api.NewTypes()
	if err != nil {
		return err
	}
	b, err := newBuilder(types)
	if err != nil {
		return err
	}
	byPath := map[string]*container{}
	for path, routes := range rootRoutes(b.served) {
		byPath[path] = &container{root: "/" + path, routes: routes}
	}
	for _, res := range b.served {
		path := documentOf(res)
		routes, err := b.resourceRoutes(res)
		if err != nil {
			return err
		}
		byPath[path].routes = append(byPath[path].routes, routes...)
	}
	out := index{V3: map[string]string{}}
	var all []common.RouteContainer
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		all = append(all, byPath[path])
		if out.V3[path], err = b.writeV3(dir, path, byPath[path]); err != nil {
			return fmt.Errorf("v3 of %s: %w", path, err)
		}
	}
	if out.V2, err = b.writeV2(dir, all); err != nil {
		return fmt.Errorf("v2: %w", err)
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "data", "index.json"), append(data, '\n'), 0o644)
}

func (b *builder) writeV2(dir string, all []common.RouteContainer) (string, error) {
	doc, err := openapibuilder.BuildOpenAPISpecFromRoutes(all, &common.Config{
		ProtocolList: []string{"https"}, Info: info(), GetDefinitions: definitions(), GetDefinitionName: b.definitionName,
		DefaultResponse: &spec.Response{ResponseProps: spec.ResponseProps{Description: "Default Response."}},
	})
	if err != nil {
		return "", err
	}
	// Clients of the second version do not expect defaults.
	doc = withoutDefaults(doc)
	data, err := json.Marshal(doc)
	if err != nil {
		return "", err
	}
	parsed, err := openapiv2.ParseDocument(data)
	if err != nil {
		return "", err
	}
	return write(dir, "v2", data, parsed)
}

func (b *builder) writeV3(dir, path string, routes *container) (string, error) {
	doc, err := builder3.BuildOpenAPISpecFromRoutes([]common.RouteContainer{routes}, &common.OpenAPIV3Config{
		Info: info(), GetDefinitions: definitions(), GetDefinitionName: b.definitionName,
	})
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return "", err
	}
	parsed, err := openapiv3.ParseDocument(data)
	if err != nil {
		return "", err
	}
	return write(dir, "v3_"+strings.ReplaceAll(path, "/", "_"), data, parsed)
}

// withoutDefaults drops the defaults of all schemas.
func withoutDefaults(doc *spec.Swagger) *spec.Swagger {
	walker := schemamutation.Walker{RefCallback: schemamutation.RefCallbackNoop, SchemaCallback: func(s *spec.Schema) *spec.Schema {
		if s.Default == nil {
			return s
		}
		pruned := *s
		pruned.Default = nil
		return &pruned
	}}
	return walker.WalkRoot(doc)
}

func write(dir, name string, data []byte, parsed proto.Message) (string, error) {
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return "", err
	}
	for suffix, content := range map[string][]byte{".json.gz": data, ".pb.gz": wire} {
		var packed bytes.Buffer
		w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return "", err
		}
		if _, err := w.Write(content); err != nil {
			return "", err
		}
		if err := w.Close(); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, "data", name+suffix), packed.Bytes(), 0o644); err != nil {
			return "", err
		}
	}
	sum := sha512.Sum512(data)
	return strings.ToUpper(hex.EncodeToString(sum[:])), nil
}
