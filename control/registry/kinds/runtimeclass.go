package kinds

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// RuntimeClasses is the kind RuntimeClass of node.k8s.io/v1.
func RuntimeClasses() Strategy[*nodev1.RuntimeClass] {
	return Strategy[*nodev1.RuntimeClass]{
		Resource:          api.RuntimeClasses,
		CreateOnUpdate:    true,
		AnyFinalizer:      true,
		ConditionalUpdate: true,
		Validate:          validateRuntimeClass,
		ValidateUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
			if c.Handler == "" { // changed to nothing: Kubernetes says so in the other order
				return all(frozen(c.Handler, old.Handler, field.NewPath("handler")), validateRuntimeClass(c))
			}
			return all(validateRuntimeClass(c), frozen(c.Handler, old.Handler, field.NewPath("handler")))
		},
		Columns: columns("Name", "Handler", "Age"),
		Row: func(c *nodev1.RuntimeClass, now time.Time) []any {
			return []any{c.Name, c.Handler, age(c.CreationTimestamp, now)}
		},
	}
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	handler := required(c.Handler, field.NewPath("handler"), "")
	if c.Handler != "" {
		handler = invalid(field.NewPath("handler"), c.Handler, validation.IsDNS1123Label(c.Handler))
	}
	var errs field.ErrorList
	if c.Overhead != nil {
		errs = append(errs, validateOverhead(c.Overhead.PodFixed, field.NewPath("overhead"))...)
	}
	if c.Scheduling == nil {
		return append(errs, handler...)
	}
	at := field.NewPath("scheduling")
	errs = append(errs, metav1validation.ValidateLabels(c.Scheduling.NodeSelector, at.Child("nodeSelector"))...)
	errs = append(errs, validateTolerations(c.Scheduling.Tolerations, at.Child("tolerations"))...)
	for i, t := range c.Scheduling.Tolerations {
		same := func(o corev1.Toleration) bool {
			return o.Key == t.Key && o.Operator == t.Operator && o.Value == t.Value && o.Effect == t.Effect
		}
		if slices.ContainsFunc(c.Scheduling.Tolerations[:i], same) {
			errs = append(errs, field.Duplicate(at.Child("tolerations").Index(i), any(hubValue{t})))
		}
	}
	return append(errs, handler...)
}

// validateOverhead checks what a pod costs beyond its containers.
func validateOverhead(list corev1.ResourceList, at *field.Path) field.ErrorList {
	return validateResources(&corev1.ResourceRequirements{Limits: list}, validateContainerResource, nil, at)
}
