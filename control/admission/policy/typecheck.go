package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
)

// maxChecked is against how many kinds a policy is checked, as in Kubernetes.
const maxChecked = 10

// TypeChecker finds mistakes in policies by the schemas of what they are about:
// fields that do not exist, comparisons of different types. Policies work
// whatever it finds.
type TypeChecker struct {
	Env   *expr.Env
	Kinds func() *api.Catalog
	// Document returns the OpenAPI document (version 3, JSON) of a group and
	// version, nil when there is none.
	Document func(schema.GroupVersion) ([]byte, error)
}

// Check returns what is to be said about the expressions of a policy.
func (c *TypeChecker) Check(p *admissionregistrationv1.ValidatingAdmissionPolicy) ([]admissionregistrationv1.ExpressionWarning, error) {
	kinds := c.kindsOf(p)
	if len(kinds) == 0 {
		return nil, nil
	}
	read := map[schema.GroupVersion]*schemas{}
	var param *spec.Schema
	if k := p.Spec.ParamKind; k != nil {
		gv, err := schema.ParseGroupVersion(k.APIVersion)
		if err != nil {
			return nil, nil // the API refuses such a kind
		}
		if param, err = c.schemaOf(gv.WithKind(k.Kind), read); err != nil {
			return nil, err
		}
	}
	typed := map[schema.GroupVersionKind]*expr.Typed{}
	for _, gvk := range kinds {
		object, err := c.schemaOf(gvk, read)
		if err != nil {
			return nil, err
		}
		if object == nil {
			continue
		}
		if typed[gvk], err = c.Env.Typed(object, param, p.Spec.ParamKind != nil, p.Spec.Variables); err != nil {
			return nil, fmt.Errorf("check against %v: %w", gvk, err)
		}
	}
	var out []admissionregistrationv1.ExpressionWarning
	check := func(text string, at *field.Path) {
		var found []string
		for _, gvk := range kinds {
			if typed[gvk] == nil || text == "" {
				continue
			}
			if err := typed[gvk].Check(text); err != nil {
				found = append(found, fmt.Sprintf("%v: %s\n", gvk, err))
			}
		}
		if len(found) > 0 {
			out = append(out, admissionregistrationv1.ExpressionWarning{FieldRef: at.String(), Warning: strings.Join(found, "\n")})
		}
	}
	for i, v := range p.Spec.Validations {
		at := field.NewPath("spec", "validations").Index(i)
		check(v.Expression, at.Child("expression"))
		check(v.MessageExpression, at.Child("messageExpression"))
	}
	return out, nil
}

// kindsOf are the kinds that a policy names, without those that it means by
// wildcards.
func (c *TypeChecker) kindsOf(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []schema.GroupVersionKind) {
	if p.Spec.MatchConstraints == nil {
		return nil
	}
	catalog := c.Kinds()
	for _, rule := range p.Spec.MatchConstraints.ResourceRules {
		if slices.Contains(rule.APIGroups, "*") || slices.Contains(rule.APIVersions, "*") {
			continue
		}
		for _, group := range rule.APIGroups {
			for _, version := range rule.APIVersions {
				for _, resource := range rule.Resources {
					found := catalog.Find(schema.GroupVersionResource{Group: group, Version: version, Resource: resource})
					if found != nil && len(out) < maxChecked && !slices.Contains(out, found.GVK()) {
						out = append(out, found.GVK())
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Version, b.Version), strings.Compare(a.Kind, b.Kind))
	})
	return out
}

func (c *TypeChecker) schemaOf(gvk schema.GroupVersionKind, read map[schema.GroupVersion]*schemas) (*spec.Schema, error) {
	gv := gvk.GroupVersion()
	if _, ok := read[gv]; !ok {
		document, err := c.Document(gv)
		if err != nil {
			return nil, err
		}
		read[gv] = &schemas{}
		if document != nil {
			if read[gv], err = parseSchemas(document); err != nil {
				return nil, err
			}
		}
	}
	return read[gv].of(gvk), nil
}
