package custom

import (
	"context"
	"fmt"
	"maps"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metaschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// Kind is what a definition makes: the Strategy of its objects, and what else
// the server needs to know of them.
type Kind struct {
	kinds.Strategy[*unstructured.Unstructured]
	definition *apiextensionsv1.CustomResourceDefinition
	schemas    map[string]*model // by version
	convert    Converter
}

// New makes a Kind of a definition that has been validated. The hub is the
// version that is stored.
func New(d *apiextensionsv1.CustomResourceDefinition, convert Converter) (*Kind, error) {
	k := &Kind{definition: d, schemas: map[string]*model{}, convert: convert}
	hub := storage(d)
	if hub == nil {
		return nil, fmt.Errorf("%s: no version is stored", d.Name)
	}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		made, err := newModel(v, d.Spec.Scope == apiextensionsv1.NamespaceScoped)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		k.schemas[v.Name] = made
	}
	if err := k.hub(hub); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	for i := range d.Spec.Versions {
		if v := &d.Spec.Versions[i]; v.Served && !v.Storage {
			k.Versions = append(k.Versions, k.version(v))
		}
	}
	return k, nil
}

// hub fills the Strategy from the stored version.
func (k *Kind) hub(v *apiextensionsv1.CustomResourceDefinitionVersion) error {
	own := k.schemas[v.Name]
	hasStatus := v.Subresources != nil && v.Subresources.Status != nil
	k.Strategy = kinds.Strategy[*unstructured.Unstructured]{
		Resource:          k.resource(v),
		Hidden:            !v.Served,
		Default:           own.complete,
		Validate:          own.validate,
		ValidateUpdate:    own.validateUpdate,
		WarnChange:        warnFinalizers,
		Generation:        true,
		AnyFinalizer:      true,
		ConditionalUpdate: true,
		Changed:           func(obj, old *unstructured.Unstructured) bool { return changed(obj, old, hasStatus) },
		Codec:             codec{gvk: k.gvk(v.Name), current: k.current},
		MergeSchema:       k.mergeSchema,
	}
	if hasStatus {
		k.Create = func(obj *unstructured.Unstructured) { delete(obj.Object, "status") }
		k.Update = func(obj, old *unstructured.Unstructured) { keep(obj, old, "status") }
		k.UpdateStatus = updateStatus
		k.ValidateStatus = own.validateStatus
		k.ResetStatus = []string{"metadata", "spec"}
	}
	if v.Subresources != nil && v.Subresources.Scale != nil {
		k.Scale = scaleOf(v.Subresources.Scale)
	}
	k.Columns, k.Row = columns(v.AdditionalPrinterColumns)
	return k.selectable(v.SelectableFields)
}

func (k *Kind) gvk(version string) metaschema.GroupVersionKind {
	return metaschema.GroupVersionKind{Group: k.definition.Spec.Group, Version: version, Kind: k.definition.Spec.Names.Kind}
}

// verbs are what may be done with custom resources, in the order in which
// Kubernetes lists them.
var verbs = []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}

// resource is what discovery says of a version.
func (k *Kind) resource(v *apiextensionsv1.CustomResourceDefinitionVersion) api.Resource {
	spec := &k.definition.Spec
	names := spec.Names
	if accepted := k.definition.Status.AcceptedNames; accepted.Plural != "" {
		names = accepted
	}
	r := api.Resource{Verbs: verbs, Group: spec.Group, Version: v.Name, Name: names.Plural, Singular: names.Singular, Kind: names.Kind,
		Namespaced: spec.Scope == apiextensionsv1.NamespaceScoped, ShortNames: names.ShortNames, Categories: names.Categories,
		Deprecation: deprecation(spec, v)}
	if hub := storage(k.definition); hub.Name != v.Name {
		r.Hub = metaschema.GroupVersion{Group: spec.Group, Version: hub.Name}
	}
	if v.Subresources == nil {
		return r
	}
	if v.Subresources.Status != nil {
		r.Subresources = append(r.Subresources, api.StatusSubresource)
	}
	if v.Subresources.Scale != nil {
		r.Subresources = append(r.Subresources, api.ScaleSubresource)
	}
	return r
}

// deprecation is the warning of a deprecated version: the definition's own, or
// one that names the newest served version that is none.
func deprecation(spec *apiextensionsv1.CustomResourceDefinitionSpec, v *apiextensionsv1.CustomResourceDefinitionVersion) string {
	if !v.Deprecated {
		return ""
	}
	if v.DeprecationWarning != nil {
		return *v.DeprecationWarning
	}
	text := fmt.Sprintf("%s/%s %s is deprecated", spec.Group, v.Name, spec.Names.Kind)
	newest := v.Name
	for _, other := range spec.Versions {
		if other.Served && !other.Deprecated && version.CompareKubeAwareVersionStrings(newest, other.Name) < 0 {
			newest = other.Name
		}
	}
	if newest != v.Name {
		text += fmt.Sprintf("; use %s/%s %s", spec.Group, newest, spec.Names.Kind)
	}
	return text
}

// version is another version that is served.
func (k *Kind) version(v *apiextensionsv1.CustomResourceDefinitionVersion) kinds.Version[*unstructured.Unstructured] {
	hub, own := storage(k.definition).Name, k.schemas[v.Name]
	heads, row := columns(v.AdditionalPrinterColumns)
	return kinds.Version[*unstructured.Unstructured]{
		Resource: k.resource(v),
		Columns:  heads,
		Row: func(obj api.Object, now time.Time) []any {
			u, ok := obj.(*unstructured.Unstructured)
			if !ok {
				return []any{obj.GetName()}
			}
			return row(u, now)
		},
		Codec: codec{gvk: k.gvk(v.Name)},
		FromHub: func(ctx context.Context, obj *unstructured.Unstructured) (api.Object, error) {
			out, err := k.to(ctx, obj, v.Name)
			if err != nil {
				return nil, err
			}
			own.complete(out)
			return out, nil
		},
		AllFromHub: func(ctx context.Context, objs []*unstructured.Unstructured) ([]api.Object, error) {
			converted, err := k.allTo(ctx, objs, v.Name)
			if err != nil {
				return nil, err
			}
			out := make([]api.Object, len(converted))
			for i, obj := range converted {
				own.complete(obj)
				out[i] = obj
			}
			return out, nil
		},
		ToHub: func(ctx context.Context, obj api.Object) (*unstructured.Unstructured, error) {
			given := obj.DeepCopyObject().(*unstructured.Unstructured)
			own.complete(given)
			return k.to(ctx, given, hub)
		},
	}
}

// current brings a stored object to the version that is stored now.
func (k *Kind) current(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	hub := storage(k.definition).Name
	if obj.GroupVersionKind() != k.gvk(hub) {
		ctx, cancel := context.WithTimeout(context.Background(), validateFor)
		defer cancel()
		converted, err := k.to(ctx, obj, hub)
		if err != nil {
			return nil, err
		}
		obj = converted
	}
	k.schemas[hub].fill(obj)
	return obj, nil
}

// keep gives obj the field of old, or takes it away.
func keep(obj, old *unstructured.Unstructured, name string) {
	if value, ok := old.Object[name]; ok {
		obj.Object[name] = value
	} else {
		delete(obj.Object, name)
	}
}

// updateStatus lets only the status change, and what the engine itself writes
// in the metadata.
func updateStatus(obj, old *unstructured.Unstructured) {
	status, has := obj.Object["status"]
	metadata := obj.Object["metadata"]
	managed, version := obj.GetManagedFields(), obj.GetResourceVersion()
	clear(obj.Object)
	maps.Copy(obj.Object, old.Object)
	delete(obj.Object, "status")
	if has {
		obj.Object["status"] = status
	}
	if _, ok := metadata.(map[string]any); ok {
		obj.Object["metadata"] = old.DeepCopy().Object["metadata"]
		obj.SetManagedFields(managed)
		obj.SetResourceVersion(version)
	}
}

// changed says whether a change counts in metadata.generation: everything does
// but the metadata and, where it has a door of its own, the status.
func changed(obj, old *unstructured.Unstructured, hasStatus bool) bool {
	wish := func(o *unstructured.Unstructured) map[string]any {
		content := maps.Clone(o.Object)
		delete(content, "metadata")
		if hasStatus {
			delete(content, "status")
		}
		return content
	}
	return !apiequality.Semantic.DeepEqual(wish(obj), wish(old))
}
