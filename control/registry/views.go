package registry

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/managed"
)

// views implements api.Views for one request.
type views struct {
	k       *kind
	as      schema.GroupVersion // that the request speaks; zero: the hub
	request *api.AdmissionRequest
	scales  *managed.Tracker
}

// Served implements api.Views.
func (v *views) Served() []api.Resource {
	first := v.k.resource
	if asked, err := v.k.as(v.as); err == nil && asked != nil {
		first = asked.resource
	}
	out := make([]api.Resource, 1, len(v.k.versions)+1)
	out[0] = first
	if !v.k.hidden && first.GVK() != v.k.resource.GVK() {
		out = append(out, v.k.resource)
	}
	for _, other := range v.k.versions {
		if other.resource.GVK() != first.GVK() {
			out = append(out, other.resource)
		}
	}
	return out
}

// Kind implements api.Views.
func (v *views) Kind(as api.Resource) schema.GroupVersionKind {
	if sub, ok := as.Subresource(v.request.Subresource); ok && !sub.Kind.Empty() {
		return sub.Kind
	}
	return as.GVK()
}

// rendered tells whether the request is for a rendering of an object that is
// itself what admission judges.
func (v *views) rendered(obj api.Object) bool {
	sub, ok := v.k.subresources[v.request.Subresource]
	return ok && sub.Get != nil && sub.Apply != nil && reflect.TypeOf(obj) == v.k.goType
}

// Show implements api.Views.
func (v *views) Show(ctx context.Context, obj api.Object, as api.Resource) (api.Object, error) {
	if v.rendered(obj) {
		return v.k.subresources[v.request.Subresource].Get(obj)
	}
	return v.k.out(ctx, as.GVK().GroupVersion(), obj, nil)
}

// Accept implements api.Views.
func (v *views) Accept(ctx context.Context, shown api.Object, as api.Resource) (api.Object, error) {
	if current := v.request.Object; v.rendered(current) {
		if want := v.Kind(as); shown.GetObjectKind().GroupVersionKind() != want {
			return nil, fmt.Errorf("got a %s, want a %s", shown.GetObjectKind().GroupVersionKind(), want)
		}
		parent := copyOf(current)
		return parent, v.k.subresources[v.request.Subresource].Apply(parent, shown)
	}
	return v.k.in(ctx, as.GVK().GroupVersion(), shown)
}

// Merging implements api.Views.
func (v *views) Merging(as api.Resource) (managedfields.TypeConverter, error) {
	if v.Kind(as) != as.GVK() {
		return v.scales.Merging() // of what speaks another kind, only a scale is more than an order
	}
	return v.k.tracker.Merging()
}
