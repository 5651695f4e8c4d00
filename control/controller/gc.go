package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// gcOwners is the index of objects by the uids of their owners.
const gcOwners = "gc/owner"

// gc is the garbage collector: it deletes objects whose owners are gone, holds
// owners that are deleted in the foreground until their dependents are gone,
// and frees the dependents of owners that leave them behind
// (https://kubernetes.io/docs/concepts/architecture/garbage-collection/). It
// keeps no graph of its own: informers indexed by owner are the graph, and
// nothing is deleted before a look at the live objects.
type gc struct {
	cfg    Config
	loop   *reconcile.Loop
	kinds  map[schema.GroupKind]api.Resource
	byName map[schema.GroupResource]watched
}

type watched struct {
	resource api.Resource
	informer *reconcile.Informer
}

func newGC(cfg Config) runner {
	c := &gc{cfg: cfg, kinds: map[schema.GroupKind]api.Resource{}, byName: map[schema.GroupResource]watched{}}
	c.loop = cfg.loop("garbage-collector", 16, c)
	for _, r := range cfg.Resources {
		c.kinds[r.GVK().GroupKind()] = r
		if r.Name == api.Events.Name && r.Group == "" || !r.Can("list", "watch") {
			continue // Events: they own nothing, nobody owns them, and they are many
		}
		informer := cfg.Informers.For(r)
		c.byName[r.GroupResource()] = watched{r, informer}
		informer.AddIndex(gcOwners, func(obj api.Object) []string {
			var uids []string
			for _, ref := range obj.GetOwnerReferences() {
				uids = append(uids, string(ref.UID))
			}
			return uids
		})
		informer.OnChange(func(old, new api.Object) { c.changed(r, old, new) })
	}
	return c.loop
}

// changed queues whoever may be concerned by a change.
func (c *gc) changed(r api.Resource, old, new api.Object) {
	switch {
	case new == nil:
		for _, dependent := range c.dependents(old.GetUID()) {
			c.loop.Enqueue(dependent.key)
		}
		c.enqueueOwners(r, old) // one may wait for this
	case old == nil:
		if len(new.GetOwnerReferences()) > 0 || held(new) {
			c.loop.Enqueue(r.KeyOf(new))
		}
	default:
		owners := equality.Semantic.DeepEqual(old.GetOwnerReferences(), new.GetOwnerReferences())
		if !owners {
			c.enqueueOwners(r, old)
		}
		dying := (old.GetDeletionTimestamp() == nil) == (new.GetDeletionTimestamp() == nil) &&
			slices.Equal(old.GetFinalizers(), new.GetFinalizers())
		if !owners || !dying {
			c.loop.Enqueue(r.KeyOf(new))
		}
	}
}

func (c *gc) enqueueOwners(r api.Resource, obj api.Object) {
	for _, ref := range obj.GetOwnerReferences() {
		if owner, ok := c.ownerKey(r, obj, ref); ok {
			c.loop.Enqueue(owner)
		}
	}
}

// held says whether a deleted object waits for the garbage collector.
func held(obj api.Object) bool {
	return foreground(obj) || obj.GetDeletionTimestamp() != nil && slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents)
}

func foreground(obj api.Object) bool {
	return obj.GetDeletionTimestamp() != nil && slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents)
}

// dependent is an object with one of its keys' owners.
type dependent struct {
	key api.Key
	obj api.Object
}

// dependents returns the known objects that name uid as an owner.
func (c *gc) dependents(uid types.UID) []dependent {
	var out []dependent
	for _, w := range c.byName {
		for _, obj := range w.informer.ByIndex(gcOwners, string(uid)) {
			out = append(out, dependent{w.resource.KeyOf(obj), obj})
		}
	}
	return out
}

// Reconcile looks after one object: as a dependent and as an owner.
func (c *gc) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	w, ok := c.byName[key.GroupResource()]
	if !ok {
		return 0, nil
	}
	obj, ok := w.informer.Get(key)
	switch {
	case !ok:
		return 0, nil
	case foreground(obj):
		return 0, c.awaitDependents(ctx, key, obj)
	case held(obj):
		return 0, c.orphan(ctx, key, obj)
	case obj.GetDeletionTimestamp() != nil || len(obj.GetOwnerReferences()) == 0:
		return 0, nil
	}
	return 0, c.judge(ctx, key, w.resource, obj)
}

// verdict sorts the owner references of an object.
type verdict struct {
	solid    int         // owners that exist
	dangling []types.UID // owners that are gone
	waiting  []types.UID // owners that wait for their dependents to go
}

// judge deletes an object that has no owner any more.
func (c *gc) judge(ctx context.Context, key api.Key, r api.Resource, obj api.Object) error {
	first, err := c.classify(ctx, r, obj)
	if err != nil || len(first.dangling)+len(first.waiting) == 0 {
		return err
	}
	// Something is to be done: decide it on the object as it is now.
	live, err := c.cfg.Client.Get(ctx, key, api.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (live.GetUID() != obj.GetUID() || live.GetDeletionTimestamp() != nil) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	found, err := c.classify(ctx, r, live)
	if err != nil || len(found.dangling)+len(found.waiting) == 0 {
		return err
	}
	if found.solid > 0 {
		return c.removeOwners(ctx, key, live, append(found.dangling, found.waiting...))
	}
	policy := metav1.DeletePropagationBackground
	switch {
	case slices.Contains(live.GetFinalizers(), metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case slices.Contains(live.GetFinalizers(), metav1.FinalizerDeleteDependents):
		policy = metav1.DeletePropagationForeground
	case len(found.waiting) > 0 && len(c.dependents(live.GetUID())) > 0:
		// The owner waits for all below it, so this one has to wait as well.
		if err := c.breakCircle(ctx, live); err != nil {
			return err
		}
		policy = metav1.DeletePropagationForeground
	}
	uid, rv := live.GetUID(), live.GetResourceVersion()
	_, err = c.cfg.Client.Delete(ctx, key, api.DeleteOptions{UID: &uid, ResourceVersion: &rv, Propagation: &policy})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s, whose owner is gone: %w", key, err)
	}
	return nil
}

// breakCircle frees the dependents of obj that are deleted in the foreground
// themselves from blocking it: they would wait for each other.
func (c *gc) breakCircle(ctx context.Context, obj api.Object) error {
	for _, d := range c.dependents(obj.GetUID()) {
		if !foreground(d.obj) {
			continue
		}
		refs := slices.Clone(d.obj.GetOwnerReferences())
		no := false
		for i := range refs {
			refs[i].BlockOwnerDeletion = &no
		}
		if err := c.setOwners(ctx, d.key, d.obj, refs); err != nil {
			return err
		}
	}
	return nil
}

// classify looks up the owners of an object. One that the informers do not
// know is asked for at the source before it counts as gone.
func (c *gc) classify(ctx context.Context, r api.Resource, obj api.Object) (verdict, error) {
	var v verdict
	for _, ref := range obj.GetOwnerReferences() {
		key, ok := c.ownerKey(r, obj, ref)
		if !ok {
			v.solid++ // not ours to judge
			continue
		}
		owner, err := c.owner(ctx, key, ref.UID)
		switch {
		case err != nil:
			return v, err
		case owner == nil:
			v.dangling = append(v.dangling, ref.UID)
		case foreground(owner):
			v.waiting = append(v.waiting, ref.UID)
		default:
			v.solid++
		}
	}
	return v, nil
}

// owner returns the object with the uid, nil when it is gone.
func (c *gc) owner(ctx context.Context, key api.Key, uid types.UID) (api.Object, error) {
	if w, ok := c.byName[key.GroupResource()]; ok {
		if obj, ok := w.informer.Get(key); ok && obj.GetUID() == uid {
			return obj, nil
		}
	}
	obj, err := c.cfg.Client.Get(ctx, key, api.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && obj.GetUID() != uid {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for owner %s: %w", key, err)
	}
	return obj, nil
}

// ownerKey says where the owner of a reference is to be found: in the
// dependent's namespace, or in none. ok is false when that cannot be said: the
// kind is not served, or a cluster-scoped object names a namespaced owner.
func (c *gc) ownerKey(r api.Resource, obj api.Object, ref metav1.OwnerReference) (api.Key, bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return api.Key{}, false
	}
	owner, ok := c.kinds[gv.WithKind(ref.Kind).GroupKind()]
	if !ok {
		return api.Key{}, false
	}
	if owner.Namespaced && !r.Namespaced {
		c.cfg.Recorder.For("garbage-collector-controller").Event(obj, corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
			"ownerRef [%s/%s, namespace: , name: %s, uid: %s] does not exist in namespace \"\"", ref.APIVersion, ref.Kind, ref.Name, ref.UID)
		return api.Key{}, false
	}
	return owner.Key(obj.GetNamespace(), ref.Name), true
}

// awaitDependents lets an owner that is deleted in the foreground go once no
// dependent blocks it, and sees to it that those which do are deleted.
func (c *gc) awaitDependents(ctx context.Context, key api.Key, obj api.Object) error {
	blocked := false
	for _, d := range c.dependents(obj.GetUID()) {
		for _, ref := range d.obj.GetOwnerReferences() {
			if ref.UID == obj.GetUID() && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion {
				blocked = true
				c.loop.Enqueue(d.key)
			}
		}
	}
	if blocked {
		return nil // the end of each dependent brings the owner back here
	}
	return c.removeFinalizer(ctx, key, obj, metav1.FinalizerDeleteDependents)
}

// orphan takes the owner's reference out of its dependents and lets it go.
// This happens on request only and must miss none, so it lists at the source.
func (c *gc) orphan(ctx context.Context, key api.Key, obj api.Object) error {
	var errs []error
	for _, w := range c.byName {
		if key.Namespace != "" && !w.resource.Namespaced {
			continue
		}
		list, err := c.cfg.Client.List(ctx, w.resource.Key(key.Namespace, ""), api.ListOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("list %s: %w", w.resource.Name, err))
			continue
		}
		for _, item := range list.Items {
			if slices.ContainsFunc(item.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == obj.GetUID() }) {
				errs = append(errs, c.removeOwners(ctx, w.resource.KeyOf(item), item, []types.UID{obj.GetUID()}))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("orphan the dependents of %s: %w", key, err)
	}
	return c.removeFinalizer(ctx, key, obj, metav1.FinalizerOrphanDependents)
}

func (c *gc) removeOwners(ctx context.Context, key api.Key, obj api.Object, uids []types.UID) error {
	return c.setOwners(ctx, key, obj, slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()),
		func(ref metav1.OwnerReference) bool { return slices.Contains(uids, ref.UID) }))
}

func (c *gc) setOwners(ctx context.Context, key api.Key, obj api.Object, refs []metav1.OwnerReference) error {
	return c.patch(ctx, key, obj, map[string]any{"ownerReferences": refs})
}

func (c *gc) removeFinalizer(ctx context.Context, key api.Key, obj api.Object, name string) error {
	live, err := c.cfg.Client.Get(ctx, key, api.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.GetUID() != obj.GetUID() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if !slices.Contains(live.GetFinalizers(), name) {
		return nil
	}
	return c.patch(ctx, key, live, map[string]any{
		"finalizers": slices.DeleteFunc(slices.Clone(live.GetFinalizers()), func(f string) bool { return f == name }),
	})
}

// patch replaces metadata of the object in the state that was read.
func (c *gc) patch(ctx context.Context, key api.Key, obj api.Object, metadata map[string]any) error {
	metadata["uid"], metadata["resourceVersion"] = obj.GetUID(), obj.GetResourceVersion()
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("patch of %s: %w", key, err)
	}
	_, err = c.cfg.Client.Patch(ctx, key, api.Patch{Type: types.MergePatchType, Data: data}, api.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch %s: %w", key, err)
	}
	return nil
}
