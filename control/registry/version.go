package registry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// version is a Version without its type parameter.
type version struct {
	resource       api.Resource
	codec          kinds.Codec
	goType         reflect.Type
	fromHub, toHub func(context.Context, api.Object) (api.Object, error)
	allFromHub     func(context.Context, []api.Object) ([]api.Object, error)
	fields         map[string]string
	columns        []metav1.TableColumnDefinition
	row            func(api.Object, time.Time) []any         // nil: that of the hub
	validate       func(obj, old api.Object) field.ErrorList // nil: as the hub; old may be nil
}

// typedCodec is the Codec of a kind with a Go type.
type typedCodec struct {
	*api.Types
	resource api.Resource
}

// New implements kinds.Codec.
func (c typedCodec) New() (api.Object, error) { return c.Types.New(c.resource) }

func newVersion[T api.Object](v kinds.Version[T], types *api.Types) (*version, error) {
	c := v.Codec
	if c == nil {
		c = typedCodec{types, v.Resource}
	}
	empty, err := c.New()
	if err != nil {
		return nil, err
	}
	made := &version{
		resource: v.Resource, codec: c, goType: reflect.TypeOf(empty), fields: v.Fields, columns: v.Columns, row: v.Row, allFromHub: eraseAll(v),
		fromHub: func(ctx context.Context, obj api.Object) (api.Object, error) { return v.FromHub(ctx, obj.(T)) },
		toHub:   func(ctx context.Context, obj api.Object) (api.Object, error) { return v.ToHub(ctx, obj) },
	}
	if v.Validate != nil {
		made.validate = func(obj, old api.Object) field.ErrorList {
			before, _ := old.(T)
			return v.Validate(obj.(T), before)
		}
	}
	return made, nil
}

// eraseAll is what a version makes of a list.
func eraseAll[T api.Object](v kinds.Version[T]) func(context.Context, []api.Object) ([]api.Object, error) {
	return func(ctx context.Context, objs []api.Object) ([]api.Object, error) {
		if v.AllFromHub != nil {
			hubs := make([]T, len(objs))
			for i, obj := range objs {
				hubs[i] = obj.(T)
			}
			return v.AllFromHub(ctx, hubs)
		}
		out := make([]api.Object, len(objs))
		for i, obj := range objs {
			var err error
			if out[i], err = v.FromHub(ctx, obj.(T)); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
}

// as finds a version of the kind; nil without an error is the hub.
func (k *kind) as(gv schema.GroupVersion) (*version, error) {
	if gv.Empty() || gv == k.resource.GVK().GroupVersion() {
		return nil, nil
	}
	for _, v := range k.versions {
		if v.resource.GVK().GroupVersion() == gv {
			return v, nil
		}
	}
	return nil, apierrors.NewBadRequest(fmt.Sprintf("%s are not served as %s", k.resource.Name, gv))
}

// checked is how an object is checked that is written as a version through a
// door.
func (k *kind) checked(gv schema.GroupVersion, through *kinds.Door) func(obj, old api.Object) field.ErrorList {
	if v, err := k.as(gv); err == nil && v != nil && v.validate != nil && through.Main {
		return v.validate
	}
	return through.Validate
}

// in turns an object of a request into the hub version. What is no object of
// the kind (a Scale, a Binding) stays as it is.
func (k *kind) in(ctx context.Context, gv schema.GroupVersion, obj api.Object) (api.Object, error) {
	v, err := k.as(gv)
	if v == nil || err != nil || reflect.TypeOf(obj) != v.goType {
		return obj, err
	}
	hub, err := v.toHub(ctx, obj)
	if err != nil {
		return nil, conversionFailed(err)
	}
	hub.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
	return hub, nil
}

// out turns the result of a request into the version that was asked for. An
// error goes through.
func (k *kind) out(ctx context.Context, gv schema.GroupVersion, obj api.Object, err error) (api.Object, error) {
	if err != nil {
		return nil, err
	}
	v, err := k.as(gv)
	if v == nil || err != nil || reflect.TypeOf(obj) != k.goType {
		return obj, err
	}
	converted, err := v.fromHub(ctx, obj)
	if err != nil {
		return nil, conversionFailed(err)
	}
	converted.GetObjectKind().SetGroupVersionKind(v.resource.GVK())
	return converted, nil
}

// allOut is out for the objects of a list.
func (k *kind) allOut(ctx context.Context, gv schema.GroupVersion, objs []api.Object) ([]api.Object, error) {
	v, err := k.as(gv)
	if v == nil || err != nil {
		return objs, err
	}
	converted, err := v.allFromHub(ctx, objs)
	if err != nil {
		return nil, conversionFailed(err)
	}
	for _, obj := range converted {
		obj.GetObjectKind().SetGroupVersionKind(v.resource.GVK())
	}
	return converted, nil
}

// conversionFailed lets a StatusError through.
func conversionFailed(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return apierrors.NewInternalError(fmt.Errorf("conversion between versions: %w", err))
}

// hubFields renames the labels of a version's field selector.
func (k *kind) hubFields(gv schema.GroupVersion, selector fields.Selector) (fields.Selector, error) {
	v, err := k.as(gv)
	if v == nil || err != nil || len(v.fields) == 0 || selector == nil {
		return selector, err
	}
	return selector.Transform(func(label, value string) (string, string, error) {
		if hub, ok := v.fields[label]; ok {
			return hub, value, nil
		}
		if label == "metadata.name" || label == "metadata.namespace" {
			return label, value, nil
		}
		return "", "", k.unknownField(label)
	})
}
