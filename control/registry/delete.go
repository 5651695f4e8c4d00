package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// Delete implements api.Client.
func (r *Registry) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	k, err := r.objectKind(key)
	if err != nil {
		return nil, err
	}
	if err := validateDelete(opts); err != nil {
		return nil, err
	}
	if ctx, err = r.fresh(ctx); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	for try := 1; ; try++ {
		obj, err := r.deleteOnce(ctx, k, key, opts)
		if errors.Is(err, store.ErrConflict) && try < raceTries && ctx.Err() == nil {
			continue
		}
		return k.out(ctx, opts.As, obj, r.fail(ctx, key, err))
	}
}

func validateDelete(opts api.DeleteOptions) error {
	var errs field.ErrorList
	if p := opts.Propagation; p != nil {
		known := []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan}
		if !slices.Contains(known, *p) {
			errs = append(errs, field.NotSupported(field.NewPath("propagationPolicy"), p, known))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind("DeleteOptions").GroupKind(), "", errs)
}

// deleteOnce is one try of Delete; store.ErrConflict means that it lost a race.
func (r *Registry) deleteOnce(ctx context.Context, k *kind, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	entry, old, err := r.load(ctx, k, key)
	if err != nil {
		return nil, err
	}
	if err := deletePreconditions(key, old, opts); err != nil {
		return nil, err
	}
	if err := r.admitDelete(ctx, k, key, old, opts); err != nil {
		return nil, err
	}
	if err := k.checkDelete(old); err != nil {
		return nil, err
	}
	obj := copyOf(old)
	finalizersChanged := !k.noOwned && propagate(obj, opts.Propagation)
	step := r.beginDeletion(k, obj, opts.GracePeriodSeconds)
	if step == deletionPending && !finalizersChanged {
		return old, nil
	}
	if k.finished(obj) {
		last := obj
		if k.grace == nil {
			last = copyOf(old) // only kinds with grace periods tell of the deletion in what they return
		}
		return r.remove(ctx, k, key, opts.DryRun, entry, last)
	}
	if opts.DryRun {
		return obj, nil
	}
	data, err := r.encode(k, obj)
	if err != nil {
		return nil, err
	}
	if string(data) == string(entry.Value) {
		return old, nil
	}
	written, err := r.store.Put(ctx, storeKey(key), data, entry.Revision)
	if err != nil {
		return nil, err
	}
	return r.decode(k, written)
}

func deletePreconditions(key api.Key, old api.Object, opts api.DeleteOptions) error {
	// Kubernetes names the kind here, not the resource.
	kind := schema.GroupResource{Group: key.Group, Resource: old.GetObjectKind().GroupVersionKind().Kind}
	if opts.UID != nil && *opts.UID != old.GetUID() {
		return apierrors.NewConflict(kind, key.Name, fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated",
			*opts.UID, old.GetUID()))
	}
	if opts.ResourceVersion != nil && *opts.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(kind, key.Name, fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified",
			*opts.ResourceVersion, old.GetResourceVersion()))
	}
	return nil
}

// remove takes an object out of the store. last is what is told about it.
func (r *Registry) remove(ctx context.Context, k *kind, key api.Key, dry bool, entry *store.Entry, last api.Object) (api.Object, error) {
	if dry {
		return last, nil
	}
	removed, err := r.store.Delete(ctx, storeKey(key), entry.Revision)
	if err != nil {
		return nil, err
	}
	k.release(ctx, last)
	last.SetResourceVersion(api.FormatRevision(removed.Revision))
	return last, nil
}

// deletion is how far a delete request got.
type deletion int

const (
	deletionBegun   deletion = iota // the object has changed
	deletionPending                 // it was being deleted already and nothing changes
)

// beginDeletion marks an object as being deleted: with the grace period that
// its kind gives it, or as due at once. A second request can only shorten the
// period. It follows rest.BeforeDelete of Kubernetes.
func (r *Registry) beginDeletion(k *kind, obj api.Object, asked *int64) deletion {
	if obj.GetDeletionTimestamp() != nil {
		return shortenDeletion(k, obj, asked)
	}
	var grace int64
	if k.grace != nil {
		grace = k.grace(obj, asked)
	}
	due := metav1.NewTime(r.stamp().Add(time.Duration(grace) * time.Second))
	obj.SetDeletionTimestamp(&due)
	obj.SetDeletionGracePeriodSeconds(&grace)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	k.markDeleted(obj)
	return deletionBegun
}

func shortenDeletion(k *kind, obj api.Object, asked *int64) deletion {
	current := obj.GetDeletionGracePeriodSeconds()
	if k.grace == nil || current == nil || asked == nil {
		return deletionPending
	}
	period := max(*asked, 0)
	if *asked < 0 {
		period = 1
	}
	if period >= *current {
		return deletionPending
	}
	due := metav1.NewTime(obj.GetDeletionTimestamp().Add(time.Duration(period-*current) * time.Second))
	obj.SetDeletionTimestamp(&due)
	obj.SetDeletionGracePeriodSeconds(&period)
	return deletionBegun
}

// propagate turns the propagation policy into the garbage collector's
// finalizers and says whether they changed. Without a policy, what is there
// stays.
func propagate(obj api.Object, policy *metav1.DeletionPropagation) bool {
	if policy == nil {
		return false
	}
	before := obj.GetFinalizers()
	after := slices.DeleteFunc(slices.Clone(before), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	switch *policy {
	case metav1.DeletePropagationOrphan:
		after = append(after, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		after = append(after, metav1.FinalizerDeleteDependents)
	}
	if slices.Equal(before, after) {
		return false
	}
	obj.SetFinalizers(after)
	return true
}
