package kinds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// ResourceQuotas is the kind ResourceQuota.
func ResourceQuotas() Strategy[*corev1.ResourceQuota] {
	return Strategy[*corev1.ResourceQuota]{
		Resource:   api.ResourceQuotas,
		Default:    func(q *corev1.ResourceQuota) { roundResources(q.Spec.Hard) },
		Create:     func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} },
		Validate:   validateQuota,
		WarnChange: quotaWarnings,
		ValidateUpdate: func(q, old *corev1.ResourceQuota) field.ErrorList {
			errs := validateQuota(q)
			if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
				errs = append(errs, field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, "field is immutable"))
			}
			return errs
		},
		Spec:   func(q *corev1.ResourceQuota) any { return &q.Spec },
		Status: func(q *corev1.ResourceQuota) any { return &q.Status },
		ValidateStatus: func(q, _ *corev1.ResourceQuota) field.ErrorList {
			return append(validateQuotaAmounts(q.Status.Hard, field.NewPath("status", "hard")), validateQuotaAmounts(q.Status.Used, field.NewPath("status", "used"))...)
		},
		Columns: columns("Name", "Request", "Limit", "Age"),
		Row: func(q *corev1.ResourceQuota, now time.Time) []any {
			requests, limits := quotaText(q)
			return []any{q.Name, requests, limits, age(q.CreationTimestamp, now)}
		},
	}
}

// quotaText renders what is used of what is allowed, limits apart.
func quotaText(q *corev1.ResourceQuota) (string, string) {
	var requests, limits []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits.") {
			limits = append(limits, text)
		} else {
			requests = append(requests, text)
		}
	}
	return strings.Join(requests, ", "), strings.Join(limits, ", ")
}

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	at := field.NewPath("spec")
	return all(validateQuotaAmounts(q.Spec.Hard, at.Child("hard")), validateScopes(&q.Spec, at.Child("scopes")),
		validateScopeSelector(&q.Spec, at.Child("scopeSelector")))
}

func validateQuotaAmounts(list corev1.ResourceList, at *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		errs = append(errs, validateQuotaName(string(name), at.Key(string(name)))...)
		errs = append(errs, validateAmount(name, list[name], at.Key(string(name)))...)
	}
	return errs
}

// quotaScopes are the known scopes. Those that are true of a pod or not have
// no values.
var quotaScopes = map[corev1.ResourceQuotaScope]bool{
	corev1.ResourceQuotaScopeTerminating: true, corev1.ResourceQuotaScopeNotTerminating: true, corev1.ResourceQuotaScopeBestEffort: true,
	corev1.ResourceQuotaScopeNotBestEffort: true, corev1.ResourceQuotaScopeCrossNamespacePodAffinity: true,
	corev1.ResourceQuotaScopePriorityClass: false, corev1.ResourceQuotaScopeVolumeAttributesClass: false,
}

// scopedResource says whether a scope can bound a resource: those of pods bound
// what pods use, best effort only their number.
func scopedResource(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage ||
			strings.HasSuffix(string(name), ".storageclass.storage.k8s.io/requests.storage")
	}
	text := strings.TrimPrefix(strings.TrimPrefix(string(name), "requests."), "limits.")
	switch corev1.ResourceName(text) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods:
		return true
	}
	return strings.HasPrefix(text, corev1.ResourceHugePagesPrefix) || strings.Contains(text, "/") && !strings.HasPrefix(text, "count/")
}

// countable says whether a resource is one of Kubernetes' own, which scopes are
// held to.
func countable(name corev1.ResourceName) bool {
	return slices.Contains(quotaResources, name) || slices.Contains(countedResources, name) ||
		hugePages(strings.TrimPrefix(string(name), corev1.DefaultResourceRequestsPrefix))
}

func validateScopes(spec *corev1.ResourceQuotaSpec, at *field.Path) (errs field.ErrorList) {
	for _, scope := range spec.Scopes {
		if _, known := quotaScopes[scope]; !known {
			errs = append(errs, field.Invalid(at, spec.Scopes, "unsupported scope"))
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Hard)) {
			if countable(name) && !scopedResource(scope, name) {
				errs = append(errs, field.Invalid(at, spec.Scopes, "unsupported scope applied to resource"))
			}
		}
	}
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating}} {
		if slices.Contains(spec.Scopes, pair[0]) && slices.Contains(spec.Scopes, pair[1]) {
			errs = append(errs, field.Invalid(at, spec.Scopes, "conflicting scopes"))
		}
	}
	return errs
}

const mustExistText = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, " +
	"ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"

func validateScopeSelector(spec *corev1.ResourceQuotaSpec, at *field.Path) (errs field.ErrorList) {
	if spec.ScopeSelector == nil {
		return nil
	}
	at = at.Child("matchExpressions")
	for _, r := range spec.ScopeSelector.MatchExpressions {
		plain, known := quotaScopes[r.ScopeName]
		if !known {
			errs = append(errs, field.Invalid(at.Child("scopeName"), r.ScopeName, "unsupported scope"))
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Hard)) {
			if countable(name) && !scopedResource(r.ScopeName, name) {
				errs = append(errs, field.Invalid(at, hubValue{spec.ScopeSelector}, "unsupported scope applied to resource"))
			}
		}
		if plain && r.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, mustExistText))
		}
		switch r.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(r.Values) != 0 {
				errs = append(errs, field.Invalid(at.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
		}
	}
	return errs
}
