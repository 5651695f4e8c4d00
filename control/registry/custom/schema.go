package custom

import (
	"context"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	celmodel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// model is what one version of a definition says of its objects. It is
// immutable; nil, for definitions without a schema, accepts everything.
type model struct {
	structural *structural.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator // nil: the schema has no CEL rules
}

func newModel(v *apiextensionsv1.CustomResourceDefinitionVersion) (*model, error) {
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, nil
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, props, nil); err != nil {
		return nil, fmt.Errorf("version %s: schema: %w", v.Name, err)
	}
	s := &model{}
	var err error
	if s.structural, err = structural.NewStructural(props); err != nil {
		return nil, fmt.Errorf("version %s: schema: %w", v.Name, err)
	}
	if s.validator, _, err = validation.NewSchemaValidator(props); err != nil {
		return nil, fmt.Errorf("version %s: schema: %w", v.Name, err)
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

// unknown lists the paths that complete would drop.
func (s *model) unknown(obj *unstructured.Unstructured) []string {
	if s == nil {
		return nil
	}
	copied := obj.DeepCopy()
	return pruning.PruneWithOptions(copied.Object, s.structural, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
}

// validate checks an object that is being created.
func (s *model) validate(obj *unstructured.Unstructured) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validation.ValidateCustomResource(nil, obj.Object, s.validator)
	return append(errs, s.further(obj.Object, nil, nil, len(errs) == 0)...)
}

// validateUpdate checks an object against the one before it. What is wrong and
// unchanged is let through (ratcheting), so that a stricter schema does not
// keep old objects from being changed elsewhere.
func (s *model) validateUpdate(obj, old *unstructured.Unstructured) field.ErrorList {
	if s == nil {
		return nil
	}
	correlated := common.NewCorrelatedObject(obj.Object, old.Object, &celmodel.Structural{Structural: s.structural})
	errs := validation.ValidateCustomResourceUpdate(nil, obj.Object, old.Object, s.validator, validation.WithRatcheting(correlated))
	return append(errs, s.further(obj.Object, old.Object, correlated, len(errs) == 0)...)
}

// further checks what JSON schemas cannot say: sets and maps in lists, embedded
// objects, and, where the shape is right, the CEL rules.
func (s *model) further(obj, old map[string]any, correlated *common.CorrelatedObject, shaped bool) field.ErrorList {
	ctx, cancel := context.WithTimeout(context.Background(), validateFor)
	defer cancel()
	var errs field.ErrorList
	if old == nil {
		errs = listtype.ValidateListSetsAndMaps(nil, s.structural, obj)
		errs = append(errs, objectmeta.Validate(ctx, nil, obj, s.structural, false)...)
	} else if len(listtype.ValidateListSetsAndMaps(nil, s.structural, old)) == 0 {
		errs = listtype.ValidateListSetsAndMaps(nil, s.structural, obj)
		errs = append(errs, objectmeta.Validate(ctx, nil, obj, s.structural, false)...)
	}
	if s.rules == nil || !shaped {
		return errs
	}
	var before any
	var options []cel.Option
	if old != nil {
		before, options = old, []cel.Option{cel.WithRatcheting(correlated)}
	}
	broken, _ := s.rules.Validate(ctx, nil, s.structural, obj, before, celconfig.RuntimeCELCostBudget, options...)
	return append(errs, broken...)
}
