package kinds

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// maxController bounds the name of an ingress class's controller.
const maxController = 250

// IngressClasses is the kind IngressClass of networking.k8s.io/v1.
func IngressClasses() Strategy[*networkingv1.IngressClass] {
	return Strategy[*networkingv1.IngressClass]{
		Resource: api.IngressClasses,
		Default: func(c *networkingv1.IngressClass) {
			if c.Spec.Parameters != nil {
				orPtr(&c.Spec.Parameters.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
			}
		},
		Validate: validateIngressClass,
		ValidateUpdate: func(c, old *networkingv1.IngressClass) field.ErrorList {
			return all(unchanged(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller")), validateIngressClass(c))
		},
		Spec:       func(c *networkingv1.IngressClass) any { return &c.Spec },
		Generation: true,
		Columns:    columns("Name", "Controller", "Parameters", "Age"),
		Row: func(c *networkingv1.IngressClass, now time.Time) []any {
			parameters := "<none>"
			if p := c.Spec.Parameters; p != nil {
				parameters = p.Kind
				if p.APIGroup != nil {
					parameters += "." + *p.APIGroup
				}
				parameters += "/" + p.Name
			}
			return []any{c.Name, c.Spec.Controller, parameters, age(c.CreationTimestamp, now)}
		},
	}
}

func validateIngressClass(c *networkingv1.IngressClass) (errs field.ErrorList) {
	at := field.NewPath("spec")
	if len(c.Spec.Controller) > maxController {
		errs = append(errs, field.TooLong(at.Child("controller"), c.Spec.Controller, maxController))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(at.Child("controller"), c.Spec.Controller)...)
	p := c.Spec.Parameters
	if p == nil {
		return errs
	}
	at = at.Child("parameters")
	var missing field.ErrorList
	for _, e := range validateTypedRef(&corev1.TypedLocalObjectReference{APIGroup: p.APIGroup, Kind: p.Kind, Name: p.Name}, at) {
		if e.Type == field.ErrorTypeRequired {
			missing = append(missing, e) // a rule at the type: comes last
		} else {
			errs = append(errs, e)
		}
	}
	return all(errs, validateScope(p, at), missing)
}

func validateScope(p *networkingv1.IngressClassParametersReference, at *field.Path) (errs field.ErrorList) {
	if p.Scope == nil {
		return append(errs, field.Required(at.Child("scope"), ""))
	}
	switch *p.Scope {
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if p.Namespace == nil {
			errs = append(errs, field.Required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
		} else {
			errs = append(errs, invalid(at.Child("namespace"), *p.Namespace, validation.IsDNS1123Label(*p.Namespace))...)
		}
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if p.Namespace != nil {
			errs = append(errs, field.Forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("scope"), *p.Scope, []string{
			networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}))
	}
	return errs
}
