package kinds

import (
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// roleName checks the names of roles and bindings, which may have colons.
func roleName(name string, prefix bool) []string {
	if prefix {
		return path.IsValidPathSegmentPrefix(name)
	}
	return path.IsValidPathSegmentName(name)
}

// Roles is the kind Role of rbac.authorization.k8s.io/v1.
func Roles() Strategy[*rbacv1.Role] {
	return Strategy[*rbacv1.Role]{
		Resource:       api.Roles,
		Name:           roleName,
		CreateOnUpdate: true,
		Validate:       func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) },
		ValidateUpdate: func(r, _ *rbacv1.Role) field.ErrorList {
			return validateRules(r.Rules, true)
		},
	}
}

// ClusterRoles is the kind ClusterRole of rbac.authorization.k8s.io/v1.
func ClusterRoles() Strategy[*rbacv1.ClusterRole] {
	return Strategy[*rbacv1.ClusterRole]{
		Resource:       api.ClusterRoles,
		Name:           roleName,
		CreateOnUpdate: true,
		Validate:       validateClusterRole,
		ValidateUpdate: func(r, _ *rbacv1.ClusterRole) field.ErrorList { return validateClusterRole(r) },
	}
}

// RoleBindings is the kind RoleBinding of rbac.authorization.k8s.io/v1.
func RoleBindings() Strategy[*rbacv1.RoleBinding] {
	validate := func(b *rbacv1.RoleBinding) field.ErrorList {
		return validateBinding(b.RoleRef, b.Subjects, true, "Role", "ClusterRole")
	}
	return Strategy[*rbacv1.RoleBinding]{
		Resource:       api.RoleBindings,
		Name:           roleName,
		CreateOnUpdate: true,
		Default:        func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate:       validate,
		ValidateUpdate: func(b, old *rbacv1.RoleBinding) field.ErrorList {
			return append(validate(b), sameRole(b.RoleRef, old.RoleRef)...)
		},
		Columns: bindingColumns(),
		Row: func(b *rbacv1.RoleBinding, now time.Time) []any {
			return bindingRow(b, b.RoleRef, b.Subjects, now)
		},
	}
}

// ClusterRoleBindings is the kind ClusterRoleBinding of
// rbac.authorization.k8s.io/v1.
func ClusterRoleBindings() Strategy[*rbacv1.ClusterRoleBinding] {
	validate := func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
		return validateBinding(b.RoleRef, b.Subjects, false, "ClusterRole")
	}
	return Strategy[*rbacv1.ClusterRoleBinding]{
		Resource:       api.ClusterRoleBindings,
		Name:           roleName,
		CreateOnUpdate: true,
		Default:        func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate:       validate,
		ValidateUpdate: func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			return append(validate(b), sameRole(b.RoleRef, old.RoleRef)...)
		},
		Columns: bindingColumns(),
		Row: func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
			return bindingRow(b, b.RoleRef, b.Subjects, now)
		},
	}
}

func bindingColumns() []metav1.TableColumnDefinition {
	return columns("Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts")
}

func bindingRow(b api.Object, ref rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	list := func(names []string) string { return strings.Join(names, ", ") }
	return []any{b.GetName(), ref.Kind + "/" + ref.Name, age(b.GetCreationTimestamp(), now), list(users), list(groups), list(accounts)}
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	or(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if kind := subjects[i].Kind; kind == rbacv1.UserKind || kind == rbacv1.GroupKind {
			or(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func sameRole(ref, old rbacv1.RoleRef) field.ErrorList {
	return unchanged(ref, old, field.NewPath("roleRef"))
}

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i, selector := range r.AggregationRule.ClusterRoleSelectors {
		errs = append(errs, validateSelector(&selector, at.Index(i))...)
		if _, err := metav1.LabelSelectorAsSelector(&selector); err != nil {
			errs = append(errs, field.Invalid(at.Index(i), nil, "invalid label selector."))
		}
	}
	return errs
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) (errs field.ErrorList) {
	for i, rule := range rules {
		at := field.NewPath("rules").Index(i)
		if len(rule.NonResourceURLs) > 0 {
			urls := at.Child("nonResourceURLs")
			if namespaced {
				errs = append(errs, field.Invalid(urls, rule.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
			}
			if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(urls, rule.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
			}
			continue
		}
		if len(rule.APIGroups) == 0 {
			errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
		}
		if len(rule.Resources) == 0 {
			errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
		}
	}
	for i, rule := range rules { // a rule at the type: comes last
		if len(rule.Verbs) == 0 {
			errs = append(errs, field.Required(field.NewPath("rules").Index(i).Child("verbs"), ""))
		}
	}
	return errs
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool, roleKinds ...string) (errs field.ErrorList) {
	at := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	if !slices.Contains(roleKinds, ref.Kind) {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, roleKinds))
	}
	if ref.Name != "" {
		errs = append(errs, invalid(at.Child("name"), ref.Name, path.IsValidPathSegmentName(ref.Name))...)
	}
	for i := range subjects {
		errs = append(errs, validateSubject(&subjects[i], namespaced, field.NewPath("subjects").Index(i))...)
	}
	for i, s := range subjects {
		errs = append(errs, required(s.Name, field.NewPath("subjects").Index(i).Child("name"), "")...)
	}
	return append(errs, required(ref.Name, at.Child("name"), "")...)
}

func validateSubject(s *rbacv1.Subject, namespaced bool, at *field.Path) (errs field.ErrorList) {
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, invalid(at.Child("name"), s.Name, apivalidation.ValidateServiceAccountName(s.Name, false))...)
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind,
			[]string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}
