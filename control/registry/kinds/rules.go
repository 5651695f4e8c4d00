package kinds

import (
	"fmt"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// all joins what several checks found.
func all(lists ...field.ErrorList) field.ErrorList { return slices.Concat(lists...) }

// required is the error about a missing value if it is missing.
func required[T comparable](value T, at *field.Path, detail string) field.ErrorList {
	var zero T
	if value == zero {
		return field.ErrorList{field.Required(at, detail)}
	}
	return nil
}

// oneOf wants a value, and wants it to be one of those.
func oneOf[T ~string](value T, at *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return knownOf(value, at, allowed...)
}

// namedOf is oneOf for a value whose absence is told with those that there are.
func namedOf[T ~string](value T, at *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, fmt.Sprintf("valid values: %q", allowed))}
	}
	return knownOf(value, at, allowed...)
}

// knownOf wants a value, which may be empty if that is listed, to be one of
// those.
func knownOf[T ~string](value T, at *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, value, allowed)}
}

// optionalOf is knownOf for a value that may be left out.
func optionalOf[T ~string](value *T, at *field.Path, allowed ...T) field.ErrorList {
	if value == nil {
		return nil
	}
	return knownOf(*value, at, allowed...)
}

// notNegative checks one count.
func notNegative[N ~int32 | ~int64](n N, at *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(n), at)
}

// optionalCount is notNegative for a count that may be left out.
func optionalCount[N ~int32 | ~int64](n *N, at *field.Path) field.ErrorList {
	if n == nil {
		return nil
	}
	return notNegative(*n, at)
}

// unchanged wants a field to stay what it was.
func unchanged(now, before any, at *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, before) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, shown(now), apivalidation.FieldImmutableErrorMsg)}
}

// frozen is unchanged for a field whose rule Kubernetes declares at its type:
// the error then shows no value.
func frozen(now, before any, at *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, before) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, nil, "field is immutable")}
}

// validateSelector checks a label selector that may be left out.
func validateSelector(s *metav1.LabelSelector, at *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, at)
}

// deref is the value behind an optional field.
func deref[T any](p *T) T {
	var none T
	if p == nil {
		return none
	}
	return *p
}
