package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/registry/managed"
	"wherry.dev/wherry/control/store"
)

// serverManager is who writes what the registry itself writes.
const serverManager = "kube-apiserver"

// deducedSchema merges maps by key and replaces everything else.
func deducedSchema() (managedfields.TypeConverter, error) {
	return managedfields.NewDeducedTypeConverter(), nil
}

// newAs makes an empty object of one of the kind's versions.
func (k *kind) newAs(gv schema.GroupVersion) (api.Object, error) {
	v, err := k.as(gv)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return k.codec.New()
	}
	return v.codec.New()
}

// convert turns an object of any of the kind's versions into another one.
func (k *kind) convert(obj api.Object, gv schema.GroupVersion) (api.Object, error) {
	ctx := context.Background() // conversions bound themselves
	hub, err := k.in(ctx, obj.GetObjectKind().GroupVersionKind().GroupVersion(), obj)
	if err != nil {
		return nil, err
	}
	return k.out(ctx, gv, hub, nil)
}

// own makes the writer of w the owner of what obj changes in live (nil: all of
// it).
func (k *kind) own(live, obj api.Object, w write) error {
	if w.owned {
		return nil
	}
	return k.tracker.Update(live, obj, w.writer())
}

// writer is who changes an object by w.
func (w write) writer() managed.Writer {
	return managed.Writer{Manager: w.manager, Version: w.as, Subresource: w.sub, Reset: w.through.Reset}
}

// applyPatch is Patch for apply patches: what does not exist is created.
func (r *Registry) applyPatch(ctx context.Context, k *kind, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	var sent map[string]any
	if err := utiljson.Unmarshal(patch.Data, &sent); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	w := write{sub: opts.Subresource, dry: opts.DryRun, options: patchOptions(opts), manager: cmp.Or(opts.FieldManager, opts.DefaultManager), as: opts.As, owned: true, patched: true}
	sub, ok := k.subresources[opts.Subresource]
	switch {
	case opts.Subresource == "":
		w.through = &k.main
	case opts.Subresource == "status" && k.hasStatus:
		w.through = &k.status
	case ok && sub.Apply != nil && sub.Get != nil:
		return r.modifySubresource(ctx, k, key, sub, w, func(w write, tracker *managed.Tracker, old api.Object) (api.Object, error) {
			return tracker.Apply(old, runtime.DeepCopyJSON(sent), w.writer(), opts.Force)
		})
	default:
		return nil, noSuchResource(key)
	}
	merged := func(old api.Object) (api.Object, error) {
		obj, err := k.tracker.Apply(old, runtime.DeepCopyJSON(sent), w.writer(), opts.Force)
		if err != nil {
			return nil, err
		}
		return obj, appliedTo(key, obj)
	}
	stored, err := r.modify(ctx, k, key, w, merged)
	if errors.Is(err, store.ErrNotFound) && opts.Subresource == "" {
		stored, err = r.createByApply(ctx, k, key, w, merged)
		if err == nil && opts.Created != nil {
			*opts.Created = true
		}
		if errors.Is(err, store.ErrConflict) {
			stored, err = r.modify(ctx, k, key, w, merged)
		}
	}
	return k.out(ctx, opts.As, stored, r.fail(ctx, key, err))
}

func (r *Registry) createByApply(ctx context.Context, k *kind, key api.Key, w write, merged change) (api.Object, error) {
	obj, err := merged(nil)
	if err != nil {
		return nil, err
	}
	if uid := obj.GetUID(); uid != "" {
		return nil, apierrors.NewConflict(key.GroupResource(), key.Name, fmt.Errorf(
			"uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	entries := obj.GetManagedFields()
	if obj, key, err = r.adopt(k, key, obj, false); err != nil {
		return nil, err
	}
	obj.SetManagedFields(entries)
	return r.insert(ctx, k, key, obj, w)
}

// appliedTo checks that an applied object is what the request named. The
// namespace of an object of the cluster has no meaning.
func appliedTo(key api.Key, obj api.Object) error {
	if obj.GetName() == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", key.Name))
	}
	if obj.GetName() != key.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), key.Name))
	}
	if key.Namespace == "" {
		obj.SetNamespace("")
	}
	if ns := obj.GetNamespace(); ns != "" && ns != key.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// scales tracks the managed fields of scales. They are those of the parent
// about its number of replicas, in other words.
func scales(common *managed.Common) *managed.Tracker {
	gvk := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	return managed.NewTracker(managed.Kind{
		Hub: gvk,
		New: func(schema.GroupVersion) (api.Object, error) {
			return &autoscalingv1.Scale{TypeMeta: metav1.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}}, nil
		},
		Convert: func(_ api.Object, gv schema.GroupVersion) (api.Object, error) {
			return nil, fmt.Errorf("a Scale has no version %s", gv)
		},
		Default: func(api.Object) {},
		// The library has no schema for it, and it has nothing to merge.
		Schema: deducedSchema,
	}, common)
}

// replicasPaths says where each version of a kind keeps what /scale writes.
func (k *kind) replicasPaths(path string) managedfields.ResourcePathMappings {
	if path == "" {
		path = "spec.replicas"
	}
	var elements fieldpath.Path
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		elements = append(elements, fieldpath.FieldNameElement(name))
	}
	paths := managedfields.ResourcePathMappings{k.resource.GroupVersion(): elements}
	for _, v := range k.versions {
		paths[v.resource.GroupVersion()] = elements
	}
	return paths
}

// rescale makes the parent of a changed scale. The entries of managedFields
// about the number of replicas are shown as the scale's and follow what happens
// to them there.
func (r *Registry) rescale(k *kind, old api.Object, sub kinds.Subresource, w write, applied bool, wanted rendered) (api.Object, error) {
	current, err := sub.Get(old)
	if err != nil {
		return nil, err
	}
	gv := w.as
	if gv.Empty() {
		gv = k.resource.GVK().GroupVersion()
	}
	handler := managedfields.NewScaleHandler(old.GetManagedFields(), gv, k.scalePaths)
	entries, err := handler.ToSubresource()
	if err != nil {
		return nil, fmt.Errorf("managed fields of a scale: %w", err)
	}
	current.SetManagedFields(entries)
	w.as, w.through = schema.GroupVersion{}, &kinds.Door{}
	changed, err := wanted(w, r.scales, current)
	if err != nil {
		return nil, err
	}
	if _, ok := changed.(*autoscalingv1.Scale); ok && !applied {
		changed.GetObjectKind().SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
		if err := r.scales.Update(current, changed, w.writer()); err != nil {
			return nil, err
		}
	}
	parent := parentOf(old, changed)
	if err := sub.Apply(parent, changed); err != nil {
		return nil, err
	}
	if entries, err = handler.ToParent(changed.GetManagedFields()); err != nil {
		return nil, fmt.Errorf("managed fields by a scale: %w", err)
	}
	parent.SetManagedFields(entries)
	return parent, nil
}

// encodeChange renders obj, which is to be stored in place of old, and says
// whether that changes anything. New times of managed fields alone do not.
func (r *Registry) encodeChange(k *kind, entry *store.Entry, obj, old api.Object) (data []byte, same bool, err error) {
	entries := obj.GetManagedFields()
	timed := managed.SameButTimes(entries, old.GetManagedFields())
	if timed {
		obj.SetManagedFields(old.GetManagedFields())
	}
	if data, err = r.encode(k, obj); err != nil {
		return nil, false, err
	}
	if string(data) == string(entry.Value) {
		return data, true, nil
	}
	if timed {
		obj.SetManagedFields(entries)
		data, err = r.encode(k, obj)
	}
	return data, false, err
}
