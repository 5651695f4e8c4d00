package kinds

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Scale says how a kind is scaled through its /scale.
type Scale[T api.Object] struct {
	// Replicas is the wished number; nil counts as none.
	Replicas func(T) *int32
	// Set writes it.
	Set func(T, int32)
	// Path is where the number is, dotted; "" is spec.replicas.
	Path string
	// Bounded says that the kind's validation tells of numbers out of range.
	Bounded bool
	// Status is what a scaler sees: the number there is, and the selector.
	Status func(T) autoscalingv1.ScaleStatus
}

// Subresource is the /scale of the kind.
func (s *Scale[T]) Subresource() Subresource {
	return Subresource{
		Get: func(old api.Object) (api.Object, error) { return s.render(old.(T)), nil },
		Apply: func(parent, changed api.Object) error {
			scale, ok := changed.(*autoscalingv1.Scale)
			if !ok {
				return apierrors.NewBadRequest(fmt.Sprintf("the object is a %T, want an autoscaling/v1 Scale", changed))
			}
			if n := scale.Spec.Replicas; n < 0 && !s.Bounded {
				return apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), parent.GetName(), field.ErrorList{
					field.Invalid(field.NewPath("spec", "replicas"), n, "must be greater than or equal to 0")})
			}
			s.Set(parent.(T), scale.Spec.Replicas)
			return nil
		},
	}
}

func (s *Scale[T]) render(obj T) *autoscalingv1.Scale {
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: deref(s.Replicas(obj))},
		Status: s.Status(obj),
	}
}
