package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// The indexes that controllers of owned objects share.
const (
	byController = "controller" // uid of the controlling owner
	byOrphanage  = "orphanage"  // namespace of objects that no controller owns
)

// indexOwners adds both indexes to an informer. Adding them again is harmless.
func indexOwners(i *reconcile.Informer) {
	i.AddIndex(byController, func(obj api.Object) []string {
		if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
			return []string{string(ref.UID)}
		}
		return nil
	})
	i.AddIndex(byOrphanage, func(obj api.Object) []string {
		if metav1.GetControllerOfNoCopy(obj) == nil {
			return []string{obj.GetNamespace()}
		}
		return nil
	})
}

// isKind says whether an owner reference points to a kind of the resource, in
// whatever version.
func isKind(ref *metav1.OwnerReference, r api.Resource) bool {
	if ref == nil || ref.Kind != r.Kind {
		return false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == r.Group
}

// owners is one kind of controller and the kind of objects that it owns.
type owners struct {
	client  api.Client
	owner   api.Resource
	owned   api.Resource
	objects *reconcile.Informer // of the owned kind, with indexOwners
	// member says whether an orphan may be adopted at all; nil: any.
	member func(owner, obj api.Object) bool
	// finalizer is added to what is adopted; "": none.
	finalizer string
}

// claim returns the objects that owner controls, after adopting matching
// orphans and releasing what no longer matches, as Kubernetes'
// ControllerRefManager does. Terminating objects are returned when they are
// owned, and never adopted. An error may come with a usable part.
func (o owners) claim(ctx context.Context, owner api.Object, selector labels.Selector) ([]api.Object, error) {
	kept, released := o.keep(ctx, owner, selector)
	if owner.GetDeletionTimestamp() != nil {
		return kept, released
	}
	adopted, err := o.adoptAll(ctx, owner, selector)
	return append(kept, adopted...), errors.Join(released, err)
}

// keep returns what owner controls and the selector matches, and releases the
// rest unless the owner is being deleted.
func (o owners) keep(ctx context.Context, owner api.Object, selector labels.Selector) ([]api.Object, error) {
	objects := o.objects.ByIndex(byController, string(owner.GetUID()))
	kept := objects[:0]
	var errs []error
	for _, obj := range objects {
		if selector.Matches(labels.Set(obj.GetLabels())) {
			kept = append(kept, obj)
		} else if owner.GetDeletionTimestamp() == nil {
			errs = append(errs, o.release(ctx, obj, owner))
		}
	}
	return kept, errors.Join(errs...)
}

// adoptAll makes owner the controller of the orphans that match.
func (o owners) adoptAll(ctx context.Context, owner api.Object, selector labels.Selector) (all []api.Object, err error) {
	var errs []error
	checked := false
	for _, obj := range o.objects.ByIndex(byOrphanage, owner.GetNamespace()) {
		if obj.GetDeletionTimestamp() != nil || !selector.Matches(labels.Set(obj.GetLabels())) || o.member != nil && !o.member(owner, obj) {
			continue
		}
		if !checked {
			// The informer may not know yet that the owner is being deleted.
			if err := o.mayAdopt(ctx, owner); err != nil {
				errs = append(errs, err)
				break
			}
			checked = true
		}
		adopted, err := o.adopt(ctx, obj, owner)
		if err != nil {
			errs = append(errs, err)
		} else if adopted != nil {
			all = append(all, adopted)
		}
	}
	return all, errors.Join(errs...)
}

func (o owners) mayAdopt(ctx context.Context, owner api.Object) error {
	fresh, err := o.client.Get(ctx, o.owner.KeyOf(owner), api.GetOptions{})
	if err != nil {
		return fmt.Errorf("check %s before adopting: %w", o.owner.KeyOf(owner), err)
	}
	if fresh.GetUID() != owner.GetUID() {
		return fmt.Errorf("%s was replaced by another of the same name; adopting nothing", o.owner.KeyOf(owner))
	}
	if at := fresh.GetDeletionTimestamp(); at != nil {
		return fmt.Errorf("%s is being deleted since %s; adopting nothing", o.owner.KeyOf(owner), at)
	}
	return nil
}

// adopt makes owner the controller of obj. It returns nil when obj is gone.
func (o owners) adopt(ctx context.Context, obj, owner api.Object) (api.Object, error) {
	refs := append([]metav1.OwnerReference{}, obj.GetOwnerReferences()...)
	change := map[string]any{"ownerReferences": append(refs, *controllerRef(owner, o.owner))}
	if o.finalizer != "" && !slices.Contains(obj.GetFinalizers(), o.finalizer) {
		change["finalizers"] = append(slices.Clone(obj.GetFinalizers()), o.finalizer)
	}
	adopted, err := o.setMetadata(ctx, obj, change)
	if err != nil {
		return nil, ignoreGone(fmt.Errorf("adopt %s: %w", o.owned.KeyOf(obj), err))
	}
	return adopted, nil
}

// release takes owner out of obj's owners.
func (o owners) release(ctx context.Context, obj, owner api.Object) error {
	refs := []metav1.OwnerReference{}
	for _, ref := range obj.GetOwnerReferences() {
		if ref.UID != owner.GetUID() {
			refs = append(refs, ref)
		}
	}
	if _, err := o.setMetadata(ctx, obj, map[string]any{"ownerReferences": refs}); err != nil {
		return ignoreGone(fmt.Errorf("release %s: %w", o.owned.KeyOf(obj), err))
	}
	return nil
}

// setMetadata replaces lists in obj's metadata if nobody has changed it
// meanwhile: a list in a merge patch is the whole list.
func (o owners) setMetadata(ctx context.Context, obj api.Object, change map[string]any) (api.Object, error) {
	change["uid"], change["resourceVersion"] = obj.GetUID(), obj.GetResourceVersion()
	patch, err := json.Marshal(map[string]any{"metadata": change})
	if err != nil {
		return nil, err
	}
	return o.client.Patch(ctx, o.owned.KeyOf(obj), api.Patch{Type: types.MergePatchType, Data: patch}, api.PatchOptions{})
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// controllerRef is the reference of a controlling owner.
func controllerRef(owner api.Object, r api.Resource) *metav1.OwnerReference {
	return metav1.NewControllerRef(owner, r.GVK())
}
