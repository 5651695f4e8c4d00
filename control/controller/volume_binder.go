package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// unboundReminder is how often a claim that waits says again for what.
const unboundReminder = 5 * time.Minute

// volumeBinder binds PersistentVolumeClaims to PersistentVolumes, has volumes
// made, and looks after both until the end
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/). Keys of
// both kinds are in one queue; a step that meets another writer is done again.
type volumeBinder struct {
	client   api.Client
	claims   *reconcile.Informer
	volumes  *reconcile.Informer
	classes  *reconcile.Informer
	pods     *reconcile.Informer
	nodes    *reconcile.Informer
	recorder *reconcile.Recorder
	loop     *reconcile.Loop
	written  latest
}

func newVolumeBinder(cfg Config) runner {
	c := &volumeBinder{
		client: cfg.Client,
		claims: cfg.Informers.For(api.PersistentVolumeClaims), volumes: cfg.Informers.For(api.PersistentVolumes),
		classes: cfg.Informers.For(api.StorageClasses), pods: cfg.Informers.For(api.Pods), nodes: cfg.Informers.For(api.Nodes),
		recorder: cfg.Recorder.For("persistentvolume-controller"),
	}
	c.loop = cfg.loop("persistent-volume-binder", 8, c)
	c.index()
	c.claims.OnChange(func(old, new api.Object) {
		for _, obj := range []api.Object{old, new} {
			if claim, ok := obj.(*corev1.PersistentVolumeClaim); ok {
				if obj == new {
					c.loop.Enqueue(api.PersistentVolumeClaims.KeyOf(claim))
				}
				c.wakeVolumesOf(claim)
			}
		}
	})
	c.volumes.OnChange(func(old, new api.Object) {
		for _, obj := range []api.Object{old, new} {
			if pv, ok := obj.(*corev1.PersistentVolume); ok {
				if obj == new {
					c.loop.Enqueue(api.PersistentVolumes.KeyOf(pv))
				}
				c.wakeClaimsOf(pv)
			}
		}
	})
	c.classes.OnChange(func(_, new api.Object) {
		if new != nil {
			c.wake(c.claims.ByIndex(byUnboundClass, new.GetName()))
		}
	})
	c.nodes.OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Node)
		after, _ := new.(*corev1.Node)
		if after != nil && keepsVolumes(after) && (before == nil || !keepsVolumes(before)) {
			c.wake(slices.DeleteFunc(c.claims.List(""), func(obj api.Object) bool {
				claim, ok := obj.(*corev1.PersistentVolumeClaim)
				return !ok || claim.Spec.VolumeName != ""
			}))
		}
	})
	return c.loop
}

// Reconcile implements reconcile.Reconciler for claims and for volumes.
func (c *volumeBinder) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	if key.Resource == api.PersistentVolumes.Name {
		if pv := c.volume(key.Name); pv != nil {
			return 0, c.keepVolume(ctx, pv)
		}
		return 0, nil
	}
	claim := c.claim(key)
	if claim == nil {
		return 0, nil
	}
	return c.keepClaim(ctx, claim)
}

// claim is the claim of a key as it is now, nil when there is none.
func (c *volumeBinder) claim(key api.Key) *corev1.PersistentVolumeClaim {
	shown, _ := c.claims.Get(key)
	claim, _ := c.written.of(key, shown).(*corev1.PersistentVolumeClaim)
	return claim
}

// volume is the volume of a name as it is now, nil when there is none.
func (c *volumeBinder) volume(name string) *corev1.PersistentVolume {
	if name == "" {
		return nil
	}
	key := api.PersistentVolumes.Key("", name)
	shown, _ := c.volumes.Get(key)
	pv, _ := c.written.of(key, shown).(*corev1.PersistentVolume)
	return pv
}

// candidates are the volumes that a claim may get: those that are free in its
// class and those that are meant for it.
func (c *volumeBinder) candidates(claim *corev1.PersistentVolumeClaim) (out []*corev1.PersistentVolume) {
	for _, objs := range [][]api.Object{
		c.volumes.ByIndex(byClaimRef, claimID(claim)), c.volumes.ByIndex(byFreeClass, volume.GetPersistentVolumeClaimClass(claim)),
	} {
		for _, obj := range objs {
			if pv := c.volume(obj.GetName()); pv != nil {
				out = append(out, pv)
			}
		}
	}
	return out
}

func (c *volumeBinder) class(name string) *storagev1.StorageClass {
	obj, _ := c.classes.Get(api.StorageClasses.Key("", name))
	class, _ := obj.(*storagev1.StorageClass)
	return class
}

// keepClaim does what is to be done next for a claim.
func (c *volumeBinder) keepClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) (time.Duration, error) {
	named, err := c.named(ctx, claim)
	if err != nil {
		return 0, err
	}
	facts := claimFacts{claim: claim, named: named}
	if claim.Spec.VolumeName == "" {
		facts.class = c.class(volume.GetPersistentVolumeClaimClass(claim))
		facts.candidates = c.candidates(claim)
		for _, pod := range reconcile.As[*corev1.Pod](c.pods.ByIndex(byClaimUse, claimID(claim))) {
			if pod.Spec.NodeName == "" && !podFinished(pod) && (facts.consumer == "" || pod.Name < facts.consumer) {
				facts.consumer = pod.Name
			}
		}
	}
	step := planClaim(facts)
	if step.why.reason != "" {
		c.recorder.Event(claim, step.why.kind, step.why.reason, "%s", step.why.message)
	}
	switch {
	case step.bind != nil:
		return 0, c.bind(ctx, step.bind, claim)
	case step.provision:
		if err := c.provision(ctx, claim, facts.class); err != nil {
			return 0, err
		}
		return unboundReminder, nil
	case step.phase == "":
		return 0, nil
	}
	_, err = c.writeClaimStatus(ctx, claim, step.phase, nil)
	if step.phase != corev1.ClaimPending {
		return 0, err
	}
	return unboundReminder, err
}

// named is the volume that a claim names, nil when there is none for sure: the
// informer may not know yet one that has just been made.
func (c *volumeBinder) named(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	name := claim.Spec.VolumeName
	if pv := c.volume(name); pv != nil || name == "" {
		return pv, nil
	}
	pv, err := api.Get[*corev1.PersistentVolume](ctx, c.client, api.PersistentVolumes.Key("", name))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the volume of %s: %w", api.PersistentVolumeClaims.KeyOf(claim), err)
	}
	return pv, nil
}

// bind writes both sides of a binding: first the volume, which can be given
// away only once, then the claim.
func (c *volumeBinder) bind(ctx context.Context, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	changed, dirty, err := volume.GetBindVolumeToClaim(pv, claim)
	if err != nil {
		return fmt.Errorf("bind %s: %w", api.PersistentVolumeClaims.KeyOf(claim), err)
	}
	if dirty {
		if pv, err = c.writeVolume(ctx, changed, ""); err != nil {
			return err
		}
	}
	if pv, err = c.writeVolumePhase(ctx, pv, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if next, dirty := boundClaim(claim, pv); dirty {
		if claim, err = c.writeClaim(ctx, next, ""); err != nil {
			return err
		}
	}
	if claim, err = c.writeClaimStatus(ctx, claim, corev1.ClaimBound, pv); err != nil {
		return err
	}
	return c.grow(ctx, claim, pv)
}

// keepVolume does what is to be done next for a volume.
func (c *volumeBinder) keepVolume(ctx context.Context, pv *corev1.PersistentVolume) error {
	claim, err := c.ownerOf(ctx, pv)
	if err != nil {
		return err
	}
	step := planVolume(pv, claim)
	if step.why.reason != "" && pv.Status.Phase != step.phase {
		c.recorder.Event(pv, step.why.kind, step.why.reason, "%s", step.why.message)
	}
	if step.wake {
		c.loop.Enqueue(api.PersistentVolumeClaims.KeyOf(claim))
	}
	if step.free != nil {
		if pv, err = c.writeVolume(ctx, step.free, ""); err != nil {
			return err
		}
	}
	if step.phase != "" {
		if pv, err = c.writeVolumePhase(ctx, pv, step.phase, step.why.message); err != nil {
			return err
		}
	}
	if step.remove && pv.DeletionTimestamp == nil {
		_, err := c.client.Delete(ctx, api.PersistentVolumes.KeyOf(pv), api.DeleteOptions{UID: &pv.UID})
		if ignoreGone(err) != nil {
			return fmt.Errorf("delete %s: %w", api.PersistentVolumes.KeyOf(pv), err)
		}
	}
	return nil
}

// ownerOf is the claim that a volume is given to, nil when that is gone for
// sure.
func (c *volumeBinder) ownerOf(ctx context.Context, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := pv.Spec.ClaimRef
	if ref == nil {
		return nil, nil
	}
	key := api.PersistentVolumeClaims.Key(ref.Namespace, ref.Name)
	if claim := c.claim(key); claim != nil && (ref.UID == "" || claim.UID == ref.UID) {
		return claim, nil
	}
	// The informer may be behind; data is lost when this is wrong.
	claim, err := api.Get[*corev1.PersistentVolumeClaim](ctx, c.client, key)
	if apierrors.IsNotFound(err) || err == nil && ref.UID != "" && claim.UID != ref.UID {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the claim of %s: %w", api.PersistentVolumes.KeyOf(pv), err)
	}
	return claim, nil
}

func (c *volumeBinder) writeVolume(ctx context.Context, pv *corev1.PersistentVolume, subresource string) (*corev1.PersistentVolume, error) {
	return writeTyped(ctx, c, api.PersistentVolumes.KeyOf(pv), pv, subresource)
}

func (c *volumeBinder) writeClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, subresource string) (*corev1.PersistentVolumeClaim, error) {
	return writeTyped(ctx, c, api.PersistentVolumeClaims.KeyOf(claim), claim, subresource)
}

// writeTyped replaces an object that nobody has changed meanwhile.
func writeTyped[T api.Object](ctx context.Context, c *volumeBinder, key api.Key, obj T, subresource string) (T, error) {
	var none T
	stored, err := c.client.Update(ctx, key, obj, api.UpdateOptions{Subresource: subresource})
	if err != nil {
		return none, fmt.Errorf("write %s: %w", key, err)
	}
	typed, ok := stored.(T)
	if !ok {
		return none, fmt.Errorf("write %s: got a %T", key, stored)
	}
	c.written.add(key, typed)
	return typed, nil
}

func (c *volumeBinder) writeVolumePhase(ctx context.Context, pv *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) (*corev1.PersistentVolume, error) {
	if pv.Status.Phase == phase && pv.Status.Message == message {
		return pv, nil
	}
	changed := pv.DeepCopy()
	changed.Status.Phase, changed.Status.Message = phase, message
	return c.writeVolume(ctx, changed, "status")
}

// writeClaimStatus writes a claim's phase, and what it has got from its volume.
func (c *volumeBinder) writeClaimStatus(ctx context.Context, claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	changed := claim.DeepCopy()
	becoming := changed.Status.Phase != phase
	changed.Status.Phase = phase
	switch {
	case pv == nil:
		changed.Status.AccessModes, changed.Status.Capacity, changed.Status.CurrentVolumeAttributesClassName = nil, nil, nil
	default:
		changed.Status.AccessModes = pv.Spec.AccessModes
		if becoming {
			changed.Status.Capacity = pv.Spec.Capacity.DeepCopy()
			changed.Status.CurrentVolumeAttributesClassName = pv.Spec.VolumeAttributesClassName
		}
	}
	if equality.Semantic.DeepEqual(changed.Status, claim.Status) {
		return claim, nil
	}
	return c.writeClaim(ctx, changed, "status")
}
