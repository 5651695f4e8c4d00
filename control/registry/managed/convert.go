package managed

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// converter shows a Kind to apimachinery's managers.
type converter struct{ kind Kind }

// New implements runtime.ObjectCreater.
func (c converter) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	return c.kind.New(gvk.GroupVersion())
}

// Default implements runtime.ObjectDefaulter. The engine fills the defaults of
// what other versions become.
func (c converter) Default(obj runtime.Object) {
	if typed, ok := obj.(api.Object); ok && typed.GetObjectKind().GroupVersionKind().GroupVersion() == c.kind.Hub.GroupVersion() {
		c.kind.Default(typed)
	}
}

// ConvertToVersion implements runtime.ObjectConvertor: between versions, and
// from the generic form that merging results in to the kind's Go type.
func (c converter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	obj, err := c.typed(in)
	if err != nil {
		return nil, err
	}
	to, ok := target.(schema.GroupVersion)
	if !ok {
		return nil, fmt.Errorf("convert a %T: the target is a %T, want one version", in, target)
	}
	if obj.GetObjectKind().GroupVersionKind().GroupVersion() == to {
		return obj, nil
	}
	return c.kind.Convert(obj, to)
}

func (c converter) typed(in runtime.Object) (api.Object, error) {
	generic, ok := in.(runtime.Unstructured)
	if !ok {
		obj, ok := in.(api.Object)
		if !ok {
			return nil, fmt.Errorf("convert a %T: it has no metadata", in)
		}
		return obj, nil
	}
	made, err := c.kind.New(in.GetObjectKind().GroupVersionKind().GroupVersion())
	if err != nil {
		return nil, err
	}
	if _, custom := made.(runtime.Unstructured); custom {
		return generic.(api.Object), nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(generic.UnstructuredContent(), made); err != nil {
		return nil, fmt.Errorf("read a merged %s: %w", c.kind.Hub.Kind, err)
	}
	return made, nil
}

// Convert implements runtime.ObjectConvertor; nothing calls it.
func (c converter) Convert(_, _, _ any) error {
	return fmt.Errorf("convert %s: not in place", c.kind.Hub.Kind)
}

// ConvertFieldLabel implements runtime.ObjectConvertor; nothing calls it.
func (c converter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
