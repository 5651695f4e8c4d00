package kinds

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Namespaces is the kind Namespace.
func Namespaces() Strategy[*corev1.Namespace] {
	return Strategy[*corev1.Namespace]{
		Resource: api.Namespaces,
		Name:     apivalidation.ValidateNamespaceName,
		Default:  defaultNamespace,
		Create:   createNamespace,
		Update: func(ns, old *corev1.Namespace) {
			ns.Spec = old.Spec
		},
		Validate:       validateNamespaceFinalizers,
		ValidateUpdate: func(ns, old *corev1.Namespace) field.ErrorList { return nil },
		Spec:           func(ns *corev1.Namespace) any { return &ns.Spec },
		Status:         func(ns *corev1.Namespace) any { return &ns.Status },
		ValidateStatus: validateNamespaceStatus,
		Fields: map[string]func(*corev1.Namespace) string{
			"name":         func(ns *corev1.Namespace) string { return ns.Name },
			"status.phase": func(ns *corev1.Namespace) string { return string(ns.Status.Phase) },
		},
		MarkDeleted: func(ns *corev1.Namespace) {
			ns.Status.Phase = corev1.NamespaceTerminating
			ns.DeletionGracePeriodSeconds = nil // it ends when it is empty
		},
		Held:         func(ns *corev1.Namespace) bool { return len(ns.Spec.Finalizers) > 0 },
		Subresources: map[string]Subresource{"finalize": finalizeNamespace()},
		Columns:      columns("Name", "Status", "Age"),
		Row: func(ns *corev1.Namespace, now time.Time) []any {
			return []any{ns.Name, string(ns.Status.Phase), age(ns.CreationTimestamp, now)}
		},
	}
}

// defaultNamespace labels a namespace with its name, so that label selectors
// can find it.
func defaultNamespace(ns *corev1.Namespace) {
	if ns.Name == "" {
		return
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

// createNamespace gives a namespace the finalizer that its controller removes
// once the content is gone.
func createNamespace(ns *corev1.Namespace) {
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

func validateNamespaceStatus(ns, _ *corev1.Namespace) field.ErrorList {
	at := field.NewPath("status", "phase")
	if ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceActive {
		return field.ErrorList{field.Invalid(at, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
	}
	if ns.DeletionTimestamp != nil && ns.Status.Phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(at, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}

// validateNamespaceFinalizers wants finalizers to be Kubernetes' own or to
// carry a domain.
func validateNamespaceFinalizers(ns *corev1.Namespace) (errs field.ErrorList) {
	at := field.NewPath("spec", "finalizers")
	for _, name := range ns.Spec.Finalizers {
		bad := apivalidation.ValidateFinalizerName(string(name), at)
		if !strings.Contains(string(name), "/") && name != corev1.FinalizerKubernetes {
			bad = append(bad, field.Invalid(at, string(name), "name is neither a standard finalizer name nor is it fully qualified"))
		}
		errs = append(errs, bad...)
	}
	return errs
}

// finalizeNamespace is PUT namespaces/x/finalize: the only way to change
// spec.finalizers.
func finalizeNamespace() Subresource {
	return Subresource{
		Get: func(old api.Object) (api.Object, error) { return old, nil },
		Apply: func(parent, changed api.Object) error {
			ns, wanted := parent.(*corev1.Namespace), changed.(*corev1.Namespace)
			ns.Spec.Finalizers = slices.Clone(wanted.Spec.Finalizers)
			ns.Finalizers = slices.Clone(wanted.Finalizers)
			return nil
		},
		Door: &Door{
			Reset: []string{"status"},
			Prepare: func(obj, old api.Object) {
				obj.(*corev1.Namespace).Status = old.(*corev1.Namespace).Status
			},
			Validate: func(obj, _ api.Object) field.ErrorList {
				return validateNamespaceFinalizers(obj.(*corev1.Namespace))
			},
		},
	}
}
