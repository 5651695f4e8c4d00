package custom

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"wherry.dev/wherry/control/api"
)

// codec keeps objects as JSON, as which Kubernetes keeps custom resources too.
type codec struct {
	gvk schema.GroupVersionKind
	// current brings an object that was stored as another version to this one,
	// or fills defaults that came later; nil: nothing to do.
	current func(obj *unstructured.Unstructured) (*unstructured.Unstructured, error)
}

// New implements kinds.Codec.
func (c codec) New() (api.Object, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(c.gvk)
	return obj, nil
}

// Encode implements kinds.Codec.
func (c codec) Encode(obj api.Object) ([]byte, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("encode %s: got a %T", c.gvk.Kind, obj)
	}
	data, err := u.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.gvk.Kind, err)
	}
	return data, nil
}

// Decode implements kinds.Codec.
func (c codec) Decode(data []byte) (api.Object, error) {
	content := map[string]any{}
	if err := utiljson.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", c.gvk.Kind, err)
	}
	obj := &unstructured.Unstructured{Object: content}
	if c.current == nil {
		return obj, nil
	}
	return c.current(obj)
}
