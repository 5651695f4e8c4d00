package kinds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateBasicQuantities wants no negative amounts of anything.
func validateBasicQuantities(list corev1.ResourceList, at *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if q := list[name]; q.Value() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.Value(), "must be a valid resource quantity"))
		}
	}
	return errs
}

// standardResources are the resources without a domain that containers may
// ask for.
var standardResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceEphemeralStorage, corev1.ResourceMemory}

// nameCheck checks the name of a resource.
type nameCheck func(name string, at *field.Path) field.ErrorList

// validateResources checks what is asked for: known resources, no request above
// its limit, and both the same for what cannot be promised twice. claims are
// the pod's.
func validateResources(r *corev1.ResourceRequirements, names nameCheck, claims []corev1.PodResourceClaim, at *field.Path) (errs field.ErrorList) {
	limits, requests := at.Child("limits"), at.Child("requests")
	huge, plain := false, false
	amount := func(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
		errs = append(errs, names(string(name), at)...)
		errs = append(errs, validateAmount(name, q, at)...)
		plain = plain || name == corev1.ResourceCPU || name == corev1.ResourceMemory
	}
	pages := func(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
		if hugePages(string(name)) {
			huge = true
			errs = append(errs, wholePages(name, q, at)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		at := limits.Key(string(name))
		amount(name, r.Limits[name], at)
		pages(name, r.Limits[name], at)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		at, request := requests.Key(string(name)), r.Requests[name]
		amount(name, request, at)
		limit, ok := r.Limits[name]
		switch {
		case ok && !overcommits(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case ok && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !ok && !overcommits(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
		pages(name, request, at)
	}
	if huge && !plain {
		errs = append(errs, field.Forbidden(at, "HugePages require cpu or memory"))
	}
	return append(errs, validateClaimNames(r.Claims, claims, at.Child("claims"))...)
}

// wholePages wants an amount of memory to be a number of pages.
func wholePages(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	page, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err == nil && page.Sign() > 0 && q.Value()%page.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(at, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))}
}

// validateClaimNames wants a container to use claims of its pod only, each once.
func validateClaimNames(used []corev1.ResourceClaim, claims []corev1.PodResourceClaim, at *field.Path) (errs field.ErrorList) {
	known := sets.New[string]()
	for _, claim := range claims {
		if claim.Name != "" {
			known.Insert(claim.Name)
		}
	}
	seen := sets.New[string]() // names, and names with requests
	for i, claim := range used {
		at := at.Index(i)
		if claim.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		key := claim.Name
		if claim.Request != "" && !seen.Has(claim.Name) {
			errs = append(errs, invalid(at.Child("request"), claim.Request, validation.IsDNS1123Label(claim.Request))...)
			key += "/" + claim.Request
		}
		part := func(other string) bool { return claim.Request == "" && strings.HasPrefix(other, claim.Name+"/") }
		if seen.Has(key) || slices.ContainsFunc(seen.UnsortedList(), part) {
			errs = append(errs, field.Duplicate(at, key))
		}
		seen.Insert(key)
		if known.Has(claim.Name) {
			continue
		}
		missing := field.NotFound(at, claim.Name)
		missing.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
		if len(known) > 0 {
			missing.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(sets.List(known), ", ")
		}
		errs = append(errs, missing)
	}
	return errs
}
