package custom

import (
	"encoding/json"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// objectMeta is the name of ObjectMeta's schema in OpenAPI documents.
const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

// Documents makes the OpenAPI documents (version 3, JSON) of kinds, one per
// group and version, by their paths below /openapi/v3. What clients look for in them, as kubectl explain does, is
// there: the models, and which operations speak which of them.
func Documents(all []*Kind) (map[string][]byte, error) {
	type document struct {
		paths   map[string]any
		schemas map[string]any
	}
	made := map[string]*document{}
	for _, k := range all {
		for i := range k.definition.Spec.Versions {
			v := &k.definition.Spec.Versions[i]
			if !v.Served {
				continue
			}
			at := "apis/" + k.definition.Spec.Group + "/" + v.Name
			if made[at] == nil {
				made[at] = &document{paths: map[string]any{}, schemas: map[string]any{
					objectMeta: metadataSchema().WithDescription("ObjectMeta is metadata that all persisted resources must have.")}}
			}
			model := k.openAPI(v.Name)
			model.Properties["metadata"] = spec.Schema{SchemaProps: spec.SchemaProps{
				Description: "Standard object's metadata.",
				AllOf:       []spec.Schema{{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef("#/components/schemas/" + objectMeta)}}}}}
			made[at].schemas[k.modelName(v.Name)] = model
			k.paths(v, made[at].paths)
		}
	}
	out := map[string][]byte{}
	for at, d := range made {
		text, err := json.Marshal(map[string]any{
			"openapi": "3.0.0", "info": map[string]any{"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
			"paths": d.paths, "components": map[string]any{"schemas": d.schemas}})
		if err != nil {
			return nil, fmt.Errorf("OpenAPI of %s: %w", at, err)
		}
		out[at] = text
	}
	return out, nil
}

// paths adds the operations of a version.
func (k *Kind) paths(v *apiextensionsv1.CustomResourceDefinitionVersion, paths map[string]any) {
	gvk := k.gvk(v.Name)
	reference := map[string]any{"$ref": "#/components/schemas/" + k.modelName(v.Name)}
	content := map[string]any{"application/json": map[string]any{"schema": reference}, "application/yaml": map[string]any{"schema": reference}}
	names := k.definition.Spec.Names
	collection := "/apis/" + gvk.Group + "/" + gvk.Version + "/"
	var parameters []any
	parameter := func(name string) map[string]any {
		return map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}}
	}
	scope := ""
	if k.definition.Spec.Scope == apiextensionsv1.NamespaceScoped {
		collection += "namespaces/{namespace}/"
		parameters, scope = append(parameters, parameter("namespace")), "Namespaced"
	}
	collection += names.Plural
	operation := func(method, action string, body bool) map[string]any {
		op := map[string]any{
			"operationId":                     method + strings.ReplaceAll(gvk.Group, ".", "") + gvk.Version + scope + gvk.Kind,
			"x-kubernetes-action":             action,
			"x-kubernetes-group-version-kind": map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind},
			"responses":                       map[string]any{"200": map[string]any{"description": "OK", "content": content}},
		}
		if body {
			op["requestBody"] = map[string]any{"content": content}
			op["parameters"] = []any{
				map[string]any{"name": "dryRun", "in": "query", "schema": map[string]any{"type": "string", "uniqueItems": true}},
				map[string]any{"name": "fieldManager", "in": "query", "schema": map[string]any{"type": "string", "uniqueItems": true}},
				map[string]any{"name": "fieldValidation", "in": "query", "schema": map[string]any{"type": "string", "uniqueItems": true}},
			}
		}
		return op
	}
	paths[collection] = map[string]any{"parameters": parameters, "get": operation("list", "list", false),
		"post": operation("create", "post", true), "delete": operation("deleteCollection", "deletecollection", false)}
	one := append(append([]any{}, parameters...), parameter("name"))
	object := map[string]any{"parameters": one, "get": operation("read", "get", false), "put": operation("replace", "put", true),
		"patch": operation("patch", "patch", true), "delete": operation("delete", "delete", false)}
	paths[collection+"/{name}"] = object
	if v.Subresources != nil && v.Subresources.Status != nil {
		paths[collection+"/{name}/status"] = map[string]any{"parameters": one, "get": operation("readStatus", "get", false),
			"put": operation("replaceStatus", "put", true), "patch": operation("patchStatus", "patch", true)}
	}
}
