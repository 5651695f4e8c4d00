package policy

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// schemas are the models of one OpenAPI document (version 3).
type schemas struct {
	Components struct {
		Schemas map[string]*spec.Schema `json:"schemas"`
	} `json:"components"`
}

const (
	refPrefix = "#/components/schemas/"
	gvkKey    = "x-kubernetes-group-version-kind"
)

func parseSchemas(document []byte) (*schemas, error) {
	s := &schemas{}
	if err := json.Unmarshal(document, s); err != nil {
		return nil, fmt.Errorf("read an OpenAPI document: %w", err)
	}
	return s, nil
}

// of returns the schema of a kind with its references resolved, nil when the
// document has none.
func (s *schemas) of(gvk schema.GroupVersionKind) *spec.Schema {
	for _, model := range s.Components.Schemas {
		list, _ := model.Extensions[gvkKey].([]any)
		for _, entry := range list {
			is, _ := entry.(map[string]any)
			if is["group"] == gvk.Group && is["version"] == gvk.Version && is["kind"] == gvk.Kind {
				return s.resolve(model, map[string]bool{})
			}
		}
	}
	return nil
}

// resolve replaces references by what they name. One that leads back to itself
// becomes an object of which nothing is known.
func (s *schemas) resolve(in *spec.Schema, open map[string]bool) *spec.Schema {
	ref := in.Ref.String()
	if ref == "" && len(in.AllOf) == 1 {
		ref = in.AllOf[0].Ref.String()
	}
	if name, ok := strings.CutPrefix(ref, refPrefix); ok {
		target := s.Components.Schemas[name]
		if target == nil || open[name] {
			return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}},
				VendorExtensible: spec.VendorExtensible{Extensions: spec.Extensions{"x-kubernetes-preserve-unknown-fields": true}}}
		}
		open[name] = true
		defer delete(open, name)
		return s.resolve(target, open)
	}
	out := *in
	if len(in.Properties) > 0 {
		out.Properties = make(map[string]spec.Schema, len(in.Properties))
		for name, p := range in.Properties {
			out.Properties[name] = *s.resolve(&p, open)
		}
	}
	if in.AdditionalProperties != nil && in.AdditionalProperties.Schema != nil {
		out.AdditionalProperties = &spec.SchemaOrBool{Allows: in.AdditionalProperties.Allows, Schema: s.resolve(in.AdditionalProperties.Schema, open)}
	}
	if in.Items != nil && in.Items.Schema != nil {
		out.Items = &spec.SchemaOrArray{Schema: s.resolve(in.Items.Schema, open)}
	}
	return &out
}
