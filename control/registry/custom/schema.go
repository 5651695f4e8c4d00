package custom

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// model is what one version of a definition says of its objects. It is
// immutable; nil, for definitions without a schema, accepts everything.
type model struct {
	structural *structural.Structural
	validator  validation.SchemaValidator
	status     validation.SchemaValidator // of the status; nil: the schema does not have it
	rules      *cel.Validator             // nil: the schema has no CEL rules
	namespaced bool
	scale      *apiextensionsv1.CustomResourceSubresourceScale // nil: there is none
}

func newModel(v *apiextensionsv1.CustomResourceDefinitionVersion, namespaced bool) (*model, error) {
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, nil
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, props, nil); err != nil {
		return nil, fmt.Errorf("version %s: schema: %w", v.Name, err)
	}
	s := &model{namespaced: namespaced}
	if v.Subresources != nil {
		s.scale = v.Subresources.Scale
	}
	var err error
	if s.structural, err = structural.NewStructural(props); err != nil {
		return nil, fmt.Errorf("version %s: schema: %w", v.Name, err)
	}
	if s.validator, _, err = validation.NewSchemaValidator(props); err != nil {
		return nil, fmt.Errorf("version %s: schema: %w", v.Name, err)
	}
	if status, ok := props.Properties["status"]; ok {
		if s.status, _, err = validation.NewSchemaValidator(&status); err != nil {
			return nil, fmt.Errorf("version %s: schema of the status: %w", v.Name, err)
		}
	}
	s.rules = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
	return s, nil
}

// complete drops what the schema does not know and fills its defaults.
func (s *model) complete(obj *unstructured.Unstructured) {
	if s == nil {
		return
	}
	pruning.Prune(obj.Object, s.structural, true)
	s.fill(obj)
}

// fill fills the schema's defaults.
func (s *model) fill(obj *unstructured.Unstructured) {
	if s == nil {
		return
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(obj.Object, s.structural)
	defaulting.Default(obj.Object, s.structural)
}
