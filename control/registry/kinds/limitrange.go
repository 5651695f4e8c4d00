package kinds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// LimitRanges is the kind LimitRange.
func LimitRanges() Strategy[*corev1.LimitRange] {
	return Strategy[*corev1.LimitRange]{
		Resource:       api.LimitRanges,
		CreateOnUpdate: true,
		Default: func(l *corev1.LimitRange) {
			for i := range l.Spec.Limits {
				defaultLimit(&l.Spec.Limits[i])
			}
		},
		Validate:       validateLimitRange,
		ValidateUpdate: func(l, _ *corev1.LimitRange) field.ErrorList { return validateLimitRange(l) },
	}
}

// defaultLimit lets the maximum of containers be their default, the default
// their request, and the minimum their request where there is neither.
func defaultLimit(l *corev1.LimitRangeItem) {
	if l.Type != corev1.LimitTypeContainer {
		return
	}
	fill := func(into *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if _, ok := (*into)[name]; ok {
				continue
			}
			if *into == nil {
				*into = corev1.ResourceList{}
			}
			(*into)[name] = q.DeepCopy()
		}
	}
	fill(&l.Default, l.Max)
	fill(&l.DefaultRequest, l.Default)
	fill(&l.DefaultRequest, l.Min)
}

var limitTypes = []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}

func validateLimitRange(l *corev1.LimitRange) (errs field.ErrorList) {
	at := field.NewPath("spec", "limits")
	for i := range l.Spec.Limits {
		limit, at := &l.Spec.Limits[i], at.Index(i)
		name := string(limit.Type)
		if texts := validation.IsQualifiedName(name); len(texts) > 0 {
			errs = append(errs, invalid(at.Child("type"), limit.Type, texts)...)
		} else if !strings.Contains(name, "/") && !slices.Contains(limitTypes, limit.Type) {
			errs = append(errs, field.Invalid(at.Child("type"), limit.Type, "must be a standard limit type or fully qualified"))
		}
		if slices.ContainsFunc(l.Spec.Limits[:i], func(o corev1.LimitRangeItem) bool { return o.Type == limit.Type }) {
			errs = append(errs, field.Duplicate(at.Child("type"), limit.Type))
		}
		errs = append(errs, validateLimit(limit, at)...)
	}
	return errs
}

func validateLimit(l *corev1.LimitRangeItem, at *field.Path) (errs field.ErrorList) {
	names := map[corev1.ResourceName]bool{}
	for _, list := range []struct {
		name       string
		quantities corev1.ResourceList
	}{{"max", l.Max}, {"min", l.Min}, {"default", l.Default}, {"defaultRequest", l.DefaultRequest}, {"maxLimitRequestRatio", l.MaxLimitRequestRatio}} {
		if l.Type == corev1.LimitTypePod && strings.HasPrefix(list.name, "default") {
			if len(list.quantities) > 0 {
				errs = append(errs, field.Forbidden(at.Child(list.name), "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(list.quantities)) {
			names[name] = true
			errs = append(errs, limitedName(l.Type)(string(name), at.Child(list.name).Key(string(name)))...)
		}
	}
	if l.Type == corev1.LimitTypePersistentVolumeClaim {
		_, min := l.Min[corev1.ResourceStorage]
		_, max := l.Max[corev1.ResourceStorage]
		if !min && !max {
			errs = append(errs, field.Required(at, "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		errs = append(errs, validateLimitOrder(l, name, at)...)
	}
	return errs
}

// validateLimitOrder wants min <= defaultRequest <= default <= max, as far as
// they are given, and a ratio that these allow.
func validateLimitOrder(l *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) (errs field.ErrorList) {
	max, hasMax := l.Max[name]
	min, hasMin := l.Min[name]
	request, hasRequest := l.DefaultRequest[name]
	limit, hasLimit := l.Default[name]
	ratio, hasRatio := l.MaxLimitRequestRatio[name]
	bad := func(child string, value any, format string, args ...any) {
		errs = append(errs, field.Invalid(at.Child(child).Key(string(name)), value, fmt.Sprintf(format, args...)))
	}
	if hasMin && hasMax && min.Cmp(max) > 0 {
		bad("min", min.String(), "min value %s is greater than max value %s", min.String(), max.String())
	}
	if hasRequest && hasMin && min.Cmp(request) > 0 {
		bad("defaultRequest", request.String(), "min value %s is greater than default request value %s", min.String(), request.String())
	}
	if hasRequest && hasMax && request.Cmp(max) > 0 {
		bad("defaultRequest", request.String(), "default request value %s is greater than max value %s", request.String(), max.String())
	}
	if hasRequest && hasLimit && request.Cmp(limit) > 0 {
		bad("defaultRequest", request.String(), "default request value %s is greater than default limit value %s", request.String(), limit.String())
	}
	if hasLimit && hasMin && min.Cmp(limit) > 0 {
		bad("default", min.String(), "min value %s is greater than default value %s", min.String(), limit.String())
	}
	if hasLimit && hasMax && limit.Cmp(max) > 0 {
		bad("default", max.String(), "default value %s is greater than max value %s", limit.String(), max.String())
	}
	if hasRatio && ratio.CmpInt64(1) < 0 {
		bad("maxLimitRequestRatio", ratio.String(), "ratio %s is less than 1", ratio.String())
	}
	if hasRatio && hasMin && hasMax && min.Sign() > 0 {
		if widest := max.AsApproximateFloat64() / min.AsApproximateFloat64(); ratio.AsApproximateFloat64() > widest {
			bad("maxLimitRequestRatio", ratio.String(), "ratio %s is greater than max/min = %f", ratio.String(), widest)
		}
	}
	if hasLimit && hasRequest && !overcommits(name) && limit.Cmp(request) != 0 {
		bad("defaultRequest", request.String(), "default value %s must equal to defaultRequest value %s", limit.String(), request.String())
	}
	return errs
}

// limitedName checks the names of what a limit of a type bounds.
func limitedName(kind corev1.LimitType) nameCheck {
	if kind == corev1.LimitTypePod || kind == corev1.LimitTypeContainer {
		return validateContainerResource
	}
	return validateResourceName
}
