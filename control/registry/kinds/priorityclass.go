package kinds

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// maxUserPriority is the highest priority that a user may define; what is above
// is the system's.
const maxUserPriority = 1_000_000_000

// systemPrefix begins the names of classes that are the system's.
const systemPrefix = "system-"

// SystemPriorityClasses are the classes that every cluster has.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	return []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: 2_000_001_000,
			Description: "Used for system critical pods that must not be moved from their current node."},
		{ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: 2_000_000_000,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."},
	}
}

// PriorityClasses is the kind PriorityClass of scheduling.k8s.io/v1.
func PriorityClasses() Strategy[*schedulingv1.PriorityClass] {
	return Strategy[*schedulingv1.PriorityClass]{
		Resource: api.PriorityClasses,
		Default: func(c *schedulingv1.PriorityClass) {
			orPtr(&c.PreemptionPolicy, corev1.PreemptLowerPriority)
		},
		Validate: validatePriorityClass,
		ValidateUpdate: func(c, old *schedulingv1.PriorityClass) (errs field.ErrorList) {
			if c.Value != old.Value {
				errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
			}
			return append(errs, unchanged(c.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
		},
		Generation: true,
		Columns:    columns("Name", "#Value", "!Global-Default", "Age", "PreemptionPolicy"),
		Row: func(c *schedulingv1.PriorityClass, now time.Time) []any {
			return []any{c.Name, int64(c.Value), c.GlobalDefault, age(c.CreationTimestamp, now), string(deref(c.PreemptionPolicy))}
		},
	}
}

func validatePriorityClass(c *schedulingv1.PriorityClass) (errs field.ErrorList) {
	switch {
	case strings.HasPrefix(c.Name, systemPrefix):
		if err := isSystemClass(c); err != nil {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+err.Error()))
		}
	case c.Value > maxUserPriority:
		errs = append(errs, field.Forbidden(field.NewPath("value"),
			fmt.Sprintf("maximum allowed value of a user defined priority is %v", maxUserPriority)))
	}
	if c.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*c.PreemptionPolicy, field.NewPath("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

// isSystemClass says why c is none of the system's classes.
func isSystemClass(c *schedulingv1.PriorityClass) error {
	for _, known := range SystemPriorityClasses() {
		switch {
		case known.Name != c.Name:
			continue
		case known.Value != c.Value:
			return fmt.Errorf("value of %v PriorityClass must be %v", known.Name, known.Value)
		case known.GlobalDefault != c.GlobalDefault:
			return fmt.Errorf("globalDefault of %v PriorityClass must be %v", known.Name, known.GlobalDefault)
		}
		return nil
	}
	return fmt.Errorf("%v is not a known system priority class", c.Name)
}
