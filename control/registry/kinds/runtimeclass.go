package kinds

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// RuntimeClasses is the kind RuntimeClass of node.k8s.io/v1.
func RuntimeClasses() Strategy[*nodev1.RuntimeClass] {
	return Strategy[*nodev1.RuntimeClass]{
		Resource: api.RuntimeClasses,
		Validate: validateRuntimeClass,
		ValidateUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
			return all(validateRuntimeClass(c), unchanged(c.Handler, old.Handler, field.NewPath("handler")))
		},
		Columns: columns("Name", "Handler", "Age"),
		Row: func(c *nodev1.RuntimeClass, now time.Time) []any {
			return []any{c.Name, c.Handler, age(c.CreationTimestamp, now)}
		},
	}
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	errs := invalid(field.NewPath("handler"), c.Handler, validation.IsDNS1123Label(c.Handler))
	if c.Overhead != nil {
		errs = append(errs, validateOverhead(c.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
	}
	if c.Scheduling == nil {
		return errs
	}
	at := field.NewPath("scheduling")
	errs = append(errs, metav1validation.ValidateLabels(c.Scheduling.NodeSelector, at.Child("nodeSelector"))...)
	errs = append(errs, validateTolerations(c.Scheduling.Tolerations, at.Child("tolerations"))...)
	for i, t := range c.Scheduling.Tolerations {
		same := func(o corev1.Toleration) bool { return apiequality.Semantic.DeepEqual(o, t) }
		if slices.ContainsFunc(c.Scheduling.Tolerations[:i], same) {
			errs = append(errs, field.Duplicate(at.Child("tolerations").Index(i), t))
		}
	}
	return errs
}

// validateOverhead checks what a pod costs beyond its containers.
func validateOverhead(list corev1.ResourceList, at *field.Path) field.ErrorList {
	return validateResources(&corev1.ResourceRequirements{Limits: list}, at)
}
