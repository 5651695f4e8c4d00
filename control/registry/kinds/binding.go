package kinds

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Bindings is the kind Binding as clients before pods/binding send it: what is
// created binds the pod of its name and is not stored.
func Bindings(bind Answer) Strategy[*corev1.Binding] {
	return Strategy[*corev1.Binding]{
		Resource: api.Bindings,
		Validate: func(b *corev1.Binding) (errs field.ErrorList) {
			if b.Target.Kind != "" && b.Target.Kind != "Node" {
				errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), b.Target.Kind, []string{"Node", "<empty>"}))
			}
			return append(errs, required(b.Target.Name, field.NewPath("target", "name"), "")...)
		},
		Answer: func(ctx context.Context, b *corev1.Binding) (api.Object, error) { return bind(ctx, b) },
	}
}
