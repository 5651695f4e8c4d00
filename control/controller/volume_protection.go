package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// newClaimProtection keeps a claim that a pod uses from going away: the
// finalizer that each has is taken off only when no pod with a node names it
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection).
func newClaimProtection(cfg Config) runner {
	claims, pods := cfg.Informers.For(api.PersistentVolumeClaims), cfg.Informers.For(api.Pods)
	loop := cfg.loop("pvc-protection", 4, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		claim, ok := claims.Get(key)
		if !ok {
			return 0, nil
		}
		return 0, cfg.protect(ctx, api.PersistentVolumeClaims, claim, api.ClaimProtection, func() (bool, error) { return cfg.claimUsed(ctx, key) })
	}))
	claims.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.PersistentVolumeClaims.KeyOf(new))
		}
	})
	pods.OnChange(func(old, new api.Object) {
		pod, ok := old.(*corev1.Pod)
		if !ok || new != nil && !podFinished(new.(*corev1.Pod)) {
			return
		}
		for i := range pod.Spec.Volumes {
			if name := api.ClaimOf(pod, &pod.Spec.Volumes[i]); name != "" {
				loop.Enqueue(api.PersistentVolumeClaims.Key(pod.Namespace, name))
			}
		}
	})
	return loop
}

// claimUsed asks the API and not an informer: a pod that has just got its node
// counts.
func (cfg Config) claimUsed(ctx context.Context, key api.Key) (bool, error) {
	list, err := cfg.Client.List(ctx, api.Pods.Key(key.Namespace, ""), api.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("look for pods that use %s: %w", key, err)
	}
	for _, obj := range list.Items {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" {
			continue
		}
		for i := range pod.Spec.Volumes {
			if api.ClaimOf(pod, &pod.Spec.Volumes[i]) == key.Name {
				return true, nil
			}
		}
	}
	return false, nil
}

// newVolumeProtection keeps a volume that is bound from going away.
func newVolumeProtection(cfg Config) runner {
	volumes := cfg.Informers.For(api.PersistentVolumes)
	loop := cfg.loop("pv-protection", 4, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, ok := volumes.Get(key)
		if !ok {
			return 0, nil
		}
		return 0, cfg.protect(ctx, api.PersistentVolumes, obj, api.VolumeProtection, func() (bool, error) {
			pv, err := api.Get[*corev1.PersistentVolume](ctx, cfg.Client, key)
			if err != nil {
				return false, err
			}
			return pv.Status.Phase == corev1.VolumeBound, nil
		})
	}))
	volumes.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.PersistentVolumes.KeyOf(new))
		}
	})
	return loop
}

// protect adds a finalizer to what is not going yet (admission has done that
// for what was made here) and takes it off what is going and not used.
func (cfg Config) protect(ctx context.Context, r api.Resource, obj api.Object, finalizer string, used func() (bool, error)) error {
	has := slices.Contains(obj.GetFinalizers(), finalizer)
	going := obj.GetDeletionTimestamp() != nil
	if has != going {
		return nil
	}
	finalizers := append(slices.Clone(obj.GetFinalizers()), finalizer)
	if going {
		if inUse, err := used(); err != nil || inUse {
			return ignoreGone(err)
		}
		finalizers = slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == finalizer })
	}
	_, err := owners{client: cfg.Client, owned: r}.setMetadata(ctx, obj, map[string]any{"finalizers": finalizers})
	if ignoreGone(err) != nil {
		return fmt.Errorf("write the finalizers of %s: %w", r.KeyOf(obj), err)
	}
	return nil
}
