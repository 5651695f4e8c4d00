package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/registry/managed"
	"wherry.dev/wherry/control/store"
)

// raceTries bounds how often a lost race is run again. Every loss is another
// writer's success, so this is only met when something is badly wrong.
const raceTries = 100

// change makes the wanted state from the stored one. It returns an object of
// its own; old is shared.
type change func(old api.Object) (api.Object, error)

// Update implements api.Client.
func (r *Registry) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	k, err := r.kindOf(key)
	if err != nil {
		return nil, err
	}
	if opts.Subresource != "" && !(opts.Subresource == "status" && k.hasStatus) {
		return r.updateSubresource(ctx, k, key, obj, opts)
	}
	if obj, err = k.in(ctx, opts.As, obj); err != nil {
		return nil, err
	}
	obj, key, err = r.adopt(k, key, obj, false)
	if err != nil {
		return nil, err
	}
	if key.Name == "" {
		return nil, apierrors.NewBadRequest("name must be provided")
	}
	w := write{through: &k.main, sub: opts.Subresource, dry: opts.DryRun, options: updateOptions(opts), manager: cmp.Or(opts.FieldManager, opts.DefaultManager), as: opts.As}
	if opts.Subresource == "status" {
		w.through = &k.status
	}
	wanted := func(api.Object) (api.Object, error) { return copyOf(obj), nil }
	stored, err := r.modify(ctx, k, key, w, wanted)
	if errors.Is(err, store.ErrNotFound) && k.createOnUpdate && opts.Subresource == "" {
		stored, err = r.createByUpdate(ctx, k, key, obj, w, wanted, opts.Created)
	}
	return k.out(ctx, opts.As, stored, r.fail(ctx, key, err))
}

// createByUpdate creates what an update did not find, or updates after all if
// somebody else was faster.
func (r *Registry) createByUpdate(ctx context.Context, k *kind, key api.Key, obj api.Object, w write, wanted change, created *bool) (api.Object, error) {
	if uid := obj.GetUID(); uid != "" {
		//lint:ignore ST1005 these are Kubernetes' words
		precondition := fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: ", uid)
		return nil, apierrors.NewConflict(key.GroupResource(), key.Name, precondition)
	}
	stored, err := r.insert(ctx, k, key, copyOf(obj), w)
	if errors.Is(err, store.ErrConflict) {
		return r.modify(ctx, k, key, w, wanted)
	}
	if err == nil && created != nil {
		*created = true
	}
	return stored, err
}

// updateSubresource replaces a rendering of an object: its scale, or the
// object itself through another door.
func (r *Registry) updateSubresource(ctx context.Context, k *kind, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	sub, ok := k.subresources[opts.Subresource]
	if !ok || sub.Apply == nil {
		return nil, noSuchResource(key)
	}
	if key.Name == "" {
		key.Name = obj.GetName()
	}
	if obj.GetName() != "" && obj.GetName() != key.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), key.Name))
	}
	w := write{sub: opts.Subresource, dry: opts.DryRun, options: updateOptions(opts), manager: cmp.Or(opts.FieldManager, opts.DefaultManager), as: opts.As}
	return r.modifySubresource(ctx, k, key, sub, w, func(write, *managed.Tracker, api.Object) (api.Object, error) { return copyOf(obj), nil })
}

// rendered makes the wanted rendering of an object from the current one, with
// the tracker of such renderings.
type rendered func(w write, tracker *managed.Tracker, current api.Object) (api.Object, error)

// modifySubresource is modify for a rendering: wanted maps the current
// rendering to the new one.
func (r *Registry) modifySubresource(ctx context.Context, k *kind, key api.Key, sub kinds.Subresource, w write, wanted rendered) (api.Object, error) {
	if w.through = sub.Door; w.through == nil {
		w.through = &k.main
	}
	scale := w.sub == "scale" && k.scalePaths != nil
	applied := w.owned
	w.owned = w.owned || scale
	stored, err := r.modify(ctx, k, key, w, func(old api.Object) (api.Object, error) {
		if scale {
			return r.rescale(k, old, sub, w, applied, wanted)
		}
		current := old
		if sub.Get != nil {
			var err error
			if current, err = sub.Get(old); err != nil {
				return nil, err
			}
		}
		changed, err := wanted(w, k.tracker, current)
		if err != nil {
			return nil, err
		}
		parent := parentOf(old, changed)
		if applied {
			parent.SetManagedFields(changed.GetManagedFields())
		}
		return parent, sub.Apply(parent, changed)
	})
	if err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if sub.Get == nil {
		return stored, nil
	}
	return sub.Get(stored)
}

// parentOf copies an object that is to be changed by what was sent to a
// subresource, with the preconditions of that.
func parentOf(old, sent api.Object) api.Object {
	parent := copyOf(old)
	parent.SetResourceVersion(sent.GetResourceVersion())
	if uid := sent.GetUID(); uid != "" {
		parent.SetUID(uid)
	}
	return parent
}

// modify changes an existing object through one of its doors, again and again
// until no other writer came between. store.ErrNotFound means that there is no
// such object.
func (r *Registry) modify(ctx context.Context, k *kind, key api.Key, w write, wanted change) (api.Object, error) {
	ctx, err := r.fresh(ctx)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		stored, err := r.modifyOnce(ctx, k, key, w, wanted)
		if !errors.Is(err, store.ErrConflict) || try == raceTries {
			return stored, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// modifyOnce is one try of modify; store.ErrConflict means that it lost a race.
func (r *Registry) modifyOnce(ctx context.Context, k *kind, key api.Key, w write, wanted change) (api.Object, error) {
	entry, old, err := r.load(ctx, k, key)
	if err != nil {
		return nil, err
	}
	obj, err := wanted(old)
	if err != nil {
		return nil, err
	}
	k.defaults(obj)
	if err := k.own(old, obj, w); err != nil {
		return nil, err
	}
	request := r.request(k, api.Update, key, w, obj, old)
	outcome := api.NotStored
	defer func() { request.Settle(outcome) }()
	if !w.judged {
		if err := r.admit(ctx, request); err != nil {
			return nil, err
		}
		obj = request.Object
	}
	if err := r.checkIdentity(k, key, w, obj, old); err != nil {
		return nil, err
	}
	r.prepareUpdate(k, w.through, obj, old)
	errs := apivalidation.ValidateObjectMetaAccessor(plainMeta(obj), k.resource.Namespaced, path.ValidatePathSegmentName, field.NewPath("metadata"))
	errs = append(errs, apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))...)
	errs = append(errs, validateFinalizers(k, obj)...)
	if errs = append(errs, k.checked(w.as, w.through)(obj, old)...); len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.resource.GVK().GroupKind(), key.Name, distinct(errs))
	}
	if !w.judged {
		if err := r.permit(ctx, request); err != nil {
			return nil, err
		}
	}
	var stored api.Object
	stored, outcome, err = r.replace(ctx, k, key, w, entry, obj, old)
	return stored, err
}

// replace stores obj in place of old, or deletes old when obj was the last
// thing that deletion waited for. It says besides whether obj is stored.
func (r *Registry) replace(ctx context.Context, k *kind, key api.Key, w write,
	entry *store.Entry, obj, old api.Object) (api.Object, api.Outcome, error) {
	settle := func(bool) {}
	if w.through.Main {
		var errs field.ErrorList
		if settle, errs = k.reserve(ctx, obj, old, w.dry); len(errs) > 0 {
			return nil, api.NotStored, apierrors.NewInvalid(k.resource.GVK().GroupKind(), key.Name, errs)
		}
		warn(ctx, k, obj, old)
	}
	if k.finished(obj) {
		settle(false)
		last, err := r.remove(ctx, k, key, w.dry, entry, obj)
		return last, api.NotStored, err
	}
	data, same, err := r.encodeChange(k, entry, obj, old)
	if err != nil || w.dry {
		settle(false)
		if err == nil {
			obj, err = r.asStored(k, obj)
		}
		return obj, api.NotStored, err
	}
	if same {
		settle(false)
		return old, api.NotStored, nil
	}
	written, err := r.store.Put(ctx, storeKey(key), data, entry.Revision)
	settle(err == nil)
	if err != nil {
		return nil, outcomeOf(err), err
	}
	stored, err := r.decode(k, written)
	return stored, api.Stored, err
}

// checkIdentity applies the preconditions that an object carries itself.
func (r *Registry) checkIdentity(k *kind, key api.Key, w write, obj, old api.Object) error {
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() {
		if w.patched {
			return apierrors.NewInvalid(k.resource.GVK().GroupKind(), key.Name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "uid"), uid, apivalidation.FieldImmutableErrorMsg)})
		}
		//lint:ignore ST1005 these are Kubernetes' words
		precondition := fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID())
		return apierrors.NewConflict(key.GroupResource(), key.Name, precondition)
	}
	version := obj.GetResourceVersion()
	if version != "" {
		if _, err := api.ParseRevision(version); err != nil {
			return unexplained(err.Error())
		}
	}
	switch {
	case version == "" || version == "0":
		if k.conditional && w.sub != "scale" {
			return apierrors.NewInvalid(schema.GroupKind{Group: key.Group, Kind: key.Resource}, key.Name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), uint64(0), "must be specified for an update")})
		}
	case version != old.GetResourceVersion():
		return apierrors.NewConflict(key.GroupResource(), key.Name, errModified)
	}
	obj.SetResourceVersion(old.GetResourceVersion())
	return nil
}

// prepareUpdate makes obj a valid successor of old as far as the engine and
// the kind decide what may change.
func (r *Registry) prepareUpdate(k *kind, through *kinds.Door, obj, old api.Object) {
	obj.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
	k.defaults(obj)
	obj.SetGeneration(old.GetGeneration())
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetSelfLink("")
	if old.GetDeletionTimestamp() != nil {
		obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
		if obj.GetDeletionGracePeriodSeconds() == nil {
			obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
		}
	}
	through.Prepare(obj, old)
	if k.counted && !through.Silent && k.changed(obj, old) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// finished says that an object's deletion has begun and nothing holds it.
func (k *kind) finished(obj api.Object) bool {
	grace := obj.GetDeletionGracePeriodSeconds()
	return obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 &&
		(grace == nil || *grace == 0) && !k.held(obj)
}
