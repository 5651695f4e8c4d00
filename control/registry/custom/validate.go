package custom

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	celmodel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// validate checks an object that is being created.
func (s *model) validate(obj *unstructured.Unstructured) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validation.ValidateCustomResource(nil, obj.Object, s.validator)
	errs = append(errs, scaleErrors(obj, s.scale)...)
	errs = append(errs, embeddedErrors(obj, s)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, obj.Object)...)
	named := func() field.ErrorList {
		return apivalidation.ValidateObjectMetaAccessor(obj, s.namespaced, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	}
	return append(errs, s.broken(obj.Object, nil, nil, errs, named)...)
}

// validateUpdate checks an object against the one before it. What is wrong and
// unchanged is let through (ratcheting), so that a stricter schema does not
// keep old objects from being changed elsewhere.
func (s *model) validateUpdate(obj, old *unstructured.Unstructured) field.ErrorList {
	if s == nil {
		return nil
	}
	correlated := s.correlated(obj, old)
	errs := validation.ValidateCustomResourceUpdate(nil, obj.Object, old.Object, s.validator, validation.WithRatcheting(correlated))
	errs = append(errs, scaleErrors(obj, s.scale)...)
	errs = append(errs, embeddedErrors(obj, s)...)
	errs = append(errs, s.listErrors(obj, old)...)
	return append(errs, s.broken(obj.Object, old.Object, correlated, errs, updated(obj, old))...)
}

// validateStatus checks an object that is written through /status: of its
// schema only what is about the status.
func (s *model) validateStatus(obj, old *unstructured.Unstructured) field.ErrorList {
	if s == nil {
		return nil
	}
	correlated := s.correlated(obj, old)
	var errs field.ErrorList
	if status, has := obj.Object["status"]; has && s.status != nil {
		errs = validation.ValidateCustomResourceUpdate(field.NewPath("status"), status, old.Object["status"], s.status,
			validation.WithRatcheting(correlated.Key("status")))
	}
	errs = append(errs, scaleStatusErrors(obj, s.scale)...)
	errs = append(errs, s.listErrors(obj, old)...)
	return append(errs, s.broken(obj.Object, old.Object, correlated, errs, updated(obj, old))...)
}

// updated checks the metadata of an update.
func updated(obj, old *unstructured.Unstructured) func() field.ErrorList {
	return func() field.ErrorList {
		return apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))
	}
}

func (s *model) correlated(obj, old *unstructured.Unstructured) *common.CorrelatedObject {
	return common.NewCorrelatedObject(obj.Object, old.Object, &celmodel.Structural{Structural: s.structural})
}

// listErrors checks sets and maps in lists, unless those of the old object were
// wrong already.
func (s *model) listErrors(obj, old *unstructured.Unstructured) field.ErrorList {
	errs := listtype.ValidateListSetsAndMaps(nil, s.structural, obj.Object)
	if len(errs) == 0 || len(listtype.ValidateListSetsAndMaps(nil, s.structural, old.Object)) > 0 {
		return nil
	}
	return errs
}

func embeddedErrors(obj *unstructured.Unstructured, s *model) field.ErrorList {
	return objectmeta.Validate(context.Background(), nil, obj.Object, s.structural, false)
}

// broken are the CEL rules that an object breaks. They speak of values whose
// shape is right: with other errors, those of errs and of the object's metadata,
// there is one more that says that nobody looked.
func (s *model) broken(obj, old map[string]any, correlated *common.CorrelatedObject, errs field.ErrorList, metadata func() field.ErrorList) field.ErrorList {
	if s.rules == nil {
		return nil
	}
	if slices.ContainsFunc(errs, misshapen) || slices.ContainsFunc(metadata(), misshapen) {
		return field.ErrorList{field.Invalid(nil, nil,
			"some validation rules were not checked because the object was invalid; correct the existing errors to complete validation")}
	}
	ctx, cancel := context.WithTimeout(context.Background(), validateFor)
	defer cancel()
	var before any
	var options []cel.Option
	if old != nil {
		before, options = old, []cel.Option{cel.WithRatcheting(correlated)}
	}
	out, _ := s.rules.Validate(ctx, nil, s.structural, obj, before, celconfig.RuntimeCELCostBudget, options...)
	return out
}

// misshapen says that an error is about what CEL rules take for granted.
func misshapen(err *field.Error) bool {
	switch err.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	}
	return false
}

// scaleErrors checks what /scale reads in an object.
func scaleErrors(obj *unstructured.Unstructured, scale *apiextensionsv1.CustomResourceSubresourceScale) field.ErrorList {
	if scale == nil {
		return nil
	}
	return append(replicasErrors(obj, scale.SpecReplicasPath), scaleStatusErrors(obj, scale)...)
}

func scaleStatusErrors(obj *unstructured.Unstructured, scale *apiextensionsv1.CustomResourceSubresourceScale) field.ErrorList {
	if scale == nil {
		return nil
	}
	errs := replicasErrors(obj, scale.StatusReplicasPath)
	if path := scale.LabelSelectorPath; path != nil {
		if text, _, err := unstructured.NestedString(obj.Object, steps(*path)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*path), text, err.Error()))
		}
	}
	return errs
}

func replicasErrors(obj *unstructured.Unstructured, path string) field.ErrorList {
	at := field.NewPath(path)
	n, _, err := unstructured.NestedInt64(obj.Object, steps(path)...)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(at, n, "should be a non-negative integer")}
	case n > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %d", math.MaxInt32))}
	}
	return nil
}

// steps are the fields that a plain path like .spec.replicas leads through.
func steps(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }
