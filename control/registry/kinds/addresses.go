package kinds

import (
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// IPAddresses is the kind IPAddress of networking.k8s.io/v1: the record of who
// has an address. Its name is the address.
func IPAddresses() Strategy[*networkingv1.IPAddress] {
	return Strategy[*networkingv1.IPAddress]{
		Resource: api.IPAddresses,
		Name: func(name string, _ bool) []string {
			var texts []string
			for _, e := range validation.IsValidIP(nil, name) {
				texts = append(texts, e.Detail)
			}
			return texts
		},
		Validate: validateIPAddress,
		ValidateUpdate: func(a, old *networkingv1.IPAddress) field.ErrorList {
			return all(validateIPAddress(a), frozen(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef")))
		},
		Columns: columns("Name", "ParentRef"),
		Row: func(a *networkingv1.IPAddress, _ time.Time) []any {
			parent := "<none>"
			if ref := a.Spec.ParentRef; ref != nil {
				parent = ref.Resource
				if ref.Group != "" {
					parent += "." + ref.Group
				}
				if ref.Namespace != "" {
					parent += "/" + ref.Namespace
				}
				parent += "/" + ref.Name
			}
			return []any{a.Name, parent}
		},
	}
}

func validateIPAddress(a *networkingv1.IPAddress) (errs field.ErrorList) {
	at, ref := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if ref == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs = append(errs, validateName(ref.Group, at.Child("group"))...)
	errs = append(errs, validateSegment(ref.Resource, at.Child("resource"), "")...)
	errs = append(errs, validateSegment(ref.Name, at.Child("name"), "")...)
	if ref.Namespace != "" {
		errs = append(errs, validateSegment(ref.Namespace, at.Child("namespace"), "")...)
	}
	return errs
}

// ServiceCIDRs is the kind ServiceCIDR of networking.k8s.io/v1.
func ServiceCIDRs() Strategy[*networkingv1.ServiceCIDR] {
	return Strategy[*networkingv1.ServiceCIDR]{
		Resource: api.ServiceCIDRs,
		Create:   func(c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} },
		Validate: validateServiceCIDR,
		ValidateUpdate: func(c, old *networkingv1.ServiceCIDR) field.ErrorList {
			return validateServiceCIDRUpdate(c, old.Spec.CIDRs)
		},
		Spec:   func(c *networkingv1.ServiceCIDR) any { return &c.Spec },
		Status: func(c *networkingv1.ServiceCIDR) any { return &c.Status },
		ValidateStatus: func(c, _ *networkingv1.ServiceCIDR) field.ErrorList {
			return metav1validation.ValidateConditions(c.Status.Conditions, field.NewPath("status", "conditions"))
		},
		Columns: columns("Name", "CIDRs", "Age"),
		Row: func(c *networkingv1.ServiceCIDR, now time.Time) []any {
			return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), age(c.CreationTimestamp, now)}
		},
	}
}

func validateServiceCIDR(c *networkingv1.ServiceCIDR) (errs field.ErrorList) {
	at, list := field.NewPath("spec", "cidrs"), c.Spec.CIDRs
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case len(list) > 2:
		return field.ErrorList{field.Invalid(at, hubValue{c.Spec}, "may only hold up to 2 values")}
	}
	for i, text := range list {
		errs = append(errs, validation.IsValidCIDR(at.Index(i), text)...)
	}
	if len(errs) == 0 && len(list) == 2 && strings.Contains(list[0], ":") == strings.Contains(list[1], ":") {
		errs = append(errs, field.Invalid(at, list, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}

// validateServiceCIDRUpdate lets the other family be added, and nothing else
// change.
func validateServiceCIDRUpdate(c *networkingv1.ServiceCIDR, old []string) (errs field.ErrorList) {
	at, list := field.NewPath("spec", "cidrs"), c.Spec.CIDRs
	grows := len(old) == 1 && len(list) == 2
	if len(old) != len(list) && !grows {
		return unchanged(list, old, at)
	}
	for i := range old {
		errs = append(errs, unchanged(list[i], old[i], at.Index(i))...)
	}
	if grows {
		errs = append(errs, validateServiceCIDR(c)...)
	}
	return errs
}
