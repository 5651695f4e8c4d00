package custom

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/utils/ptr"
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
			made[at].schemas[k.modelName(v.Name)], made[at].schemas[k.modelName(v.Name)+"List"] = k.published(v)
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

// published are the models of a version, and of lists of its objects.
func (k *Kind) published(v *apiextensionsv1.CustomResourceDefinitionVersion) (model, list *spec.Schema) {
	reference := func(to, description string) spec.Schema {
		return spec.Schema{SchemaProps: spec.SchemaProps{Description: description,
			AllOf: []spec.Schema{{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef("#/components/schemas/" + to)}}}}}
	}
	metadata := reference(objectMeta, "Standard object's metadata. More info: "+conventions+"metadata")
	model = k.openAPI(v.Name)
	model.Properties["metadata"] = metadata
	embed(model, metadata)
	each(model, func(s *spec.Schema) {
		if either, _ := s.Extensions.GetBool("x-kubernetes-int-or-string"); either && len(s.AnyOf) == 0 && len(s.AllOf) == 0 {
			s.AnyOf = []spec.Schema{{SchemaProps: spec.SchemaProps{Type: []string{"integer"}}}, {SchemaProps: spec.SchemaProps{Type: []string{"string"}}}}
		}
		if embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); embedded {
			for _, name := range []string{"kind", "apiVersion"} {
				if !slices.Contains(s.Required, name) {
					s.Required = append(slices.Clone(s.Required), name)
				}
			}
		}
	})
	names, gvk := k.definition.Spec.Names, k.gvk(v.Name)
	items := spec.ArrayProperty(ptr.To(reference(k.modelName(v.Name), "")))
	items.Description = fmt.Sprintf("List of %s. More info: %s", names.Plural, strings.TrimSuffix(conventions, "#"))
	list = &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Required: []string{"items"},
		Description: fmt.Sprintf("%s is a list of %s", names.ListKind, names.Kind),
		Properties: map[string]spec.Schema{"apiVersion": model.Properties["apiVersion"], "kind": model.Properties["kind"], "items": *items,
			"metadata": {SchemaProps: spec.SchemaProps{Type: []string{"object"}, Description: "Standard list metadata. More info: " + conventions + "types-kinds"}}}}}
	list.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": names.ListKind}})
	if len(v.SelectableFields) > 0 {
		var fields []any
		for _, f := range v.SelectableFields {
			fields = append(fields, map[string]any{"fieldPath": strings.TrimPrefix(f.JSONPath, ".")})
		}
		model.AddExtension("x-kubernetes-selectable-fields", fields)
		list.AddExtension("x-kubernetes-selectable-fields", fields)
	}
	return model, list
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
