package kinds

import (
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxMatchConditions is how many conditions a webhook or policy may have.
const maxMatchConditions = 64

var operations = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll, admissionregistrationv1.Connect,
	admissionregistrationv1.Create, admissionregistrationv1.Delete, admissionregistrationv1.Update}

// wildcardAlone wants a list with something in it, and nothing beside a
// wildcard.
func wildcardAlone[T ~string](list []T, what string, at *field.Path) (errs field.ErrorList) {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(list) > 1 && slices.Contains(list, "*") {
		errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other "+what))
	}
	return errs
}

// validateRule checks which requests a webhook or policy is about.
func validateRule(r *admissionregistrationv1.RuleWithOperations, at *field.Path) field.ErrorList {
	errs := wildcardAlone(r.Operations, "operations", at.Child("operations"))
	for i, op := range r.Operations {
		errs = append(errs, knownOf(op, at.Child("operations").Index(i), operations...)...)
	}
	errs = append(errs, wildcardAlone(r.APIGroups, "API groups", at.Child("apiGroups"))...)
	errs = append(errs, wildcardAlone(r.APIVersions, "API versions", at.Child("apiVersions"))...)
	for i, version := range r.APIVersions {
		errs = append(errs, required(version, at.Child("apiVersions").Index(i), "")...)
	}
	errs = append(errs, validateRuleResources(r.Resources, at.Child("resources"))...)
	return append(errs, optionalOf(r.Scope, at.Child("scope"), admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope,
		admissionregistrationv1.NamespacedScope)...)
}

// validateRuleResources checks names like "pods", "pods/*", "*/scale".
func validateRuleResources(list []string, at *field.Path) (errs field.ErrorList) {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	whole := map[string]bool{}    // all subresources of a resource: "pods/*"
	anywhere := map[string]bool{} // a subresource of all resources: "*/scale"
	for i, text := range list {
		at := at.Index(i)
		if text == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		if text == "*/*" && len(list) > 1 {
			errs = append(errs, field.Invalid(at, text, "if '*/*' is present, must not specify other resources"))
		}
		resource, sub, found := strings.Cut(text, "/")
		if !found {
			continue
		}
		if whole[resource] {
			errs = append(errs, field.Invalid(at, text, "if '"+resource+"/*' is present, must not specify "+text))
		}
		if anywhere[sub] {
			errs = append(errs, field.Invalid(at, text, "if '*/"+sub+"' is present, must not specify "+text))
		}
		if sub == "*" {
			whole[resource] = true
		}
		if resource == "*" {
			anywhere[sub] = true
		}
	}
	plain := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.Contains(s, "/") })
	// Kubernetes looks at the last of the plain names only.
	if slices.Contains(plain, "*") && plain[len(plain)-1] != "*" {
		errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func validateMatchConditions(list []admissionregistrationv1.MatchCondition, at *field.Path) (errs field.ErrorList) {
	if len(list) > maxMatchConditions {
		errs = append(errs, field.TooMany(at, len(list), maxMatchConditions))
	}
	for i, c := range list {
		at := at.Index(i)
		errs = append(errs, required(strings.TrimSpace(c.Expression), at.Child("expression"), "")...)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, invalid(at.Child("name"), c.Name, validation.IsQualifiedName(c.Name))...)
		if slices.ContainsFunc(list[:i], func(o admissionregistrationv1.MatchCondition) bool { return o.Name == c.Name }) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
	}
	return errs
}
