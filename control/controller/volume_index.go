package controller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// The indexes by which claims and volumes find each other.
const (
	byClaimRef     = "claimRef"      // volumes: namespace/name of their claim
	byFreeClass    = "free class"    // volumes without a claim: their class
	byUnboundClass = "unbound class" // claims without a volume: their class
	byVolumeName   = "volume name"   // claims: the volume that they name
	byClaimUse     = "claim use"     // pods: namespace/name of each of their claims
)

// index adds the indexes of claims, volumes and pods to the informers.
func (c *volumeBinder) index() {
	c.volumes.AddIndex(byClaimRef, func(obj api.Object) []string {
		if pv, ok := obj.(*corev1.PersistentVolume); ok && pv.Spec.ClaimRef != nil {
			return []string{pv.Spec.ClaimRef.Namespace + "/" + pv.Spec.ClaimRef.Name}
		}
		return nil
	})
	c.volumes.AddIndex(byFreeClass, func(obj api.Object) []string {
		if pv, ok := obj.(*corev1.PersistentVolume); ok && pv.Spec.ClaimRef == nil {
			return []string{volume.GetPersistentVolumeClass(pv)}
		}
		return nil
	})
	c.claims.AddIndex(byUnboundClass, func(obj api.Object) []string {
		if claim, ok := obj.(*corev1.PersistentVolumeClaim); ok && claim.Spec.VolumeName == "" {
			return []string{volume.GetPersistentVolumeClaimClass(claim)}
		}
		return nil
	})
	c.claims.AddIndex(byVolumeName, func(obj api.Object) []string {
		if claim, ok := obj.(*corev1.PersistentVolumeClaim); ok && claim.Spec.VolumeName != "" {
			return []string{claim.Spec.VolumeName}
		}
		return nil
	})
	indexClaimUse(c.pods)
}

// indexClaimUse finds pods by the claims that they use. Adding it again is
// harmless.
func indexClaimUse(pods *reconcile.Informer) {
	pods.AddIndex(byClaimUse, func(obj api.Object) (out []string) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil
		}
		for i := range pod.Spec.Volumes {
			if name := api.ClaimOf(pod, &pod.Spec.Volumes[i]); name != "" {
				out = append(out, pod.Namespace+"/"+name)
			}
		}
		return out
	})
}

func claimID(claim *corev1.PersistentVolumeClaim) string { return claim.Namespace + "/" + claim.Name }

// wakeVolumesOf has the volumes looked at that a claim may be about.
func (c *volumeBinder) wakeVolumesOf(claim *corev1.PersistentVolumeClaim) {
	if claim.Spec.VolumeName != "" {
		c.loop.Enqueue(api.PersistentVolumes.Key("", claim.Spec.VolumeName))
	}
	c.wake(c.volumes.ByIndex(byClaimRef, claimID(claim)))
}

// wakeClaimsOf has the claims looked at for which a volume may be news.
func (c *volumeBinder) wakeClaimsOf(pv *corev1.PersistentVolume) {
	if ref := pv.Spec.ClaimRef; ref != nil {
		c.loop.Enqueue(api.PersistentVolumeClaims.Key(ref.Namespace, ref.Name))
	} else {
		c.wake(c.claims.ByIndex(byUnboundClass, volume.GetPersistentVolumeClass(pv)))
	}
	c.wake(c.claims.ByIndex(byVolumeName, pv.Name))
}

// wake has claims and volumes looked at.
func (c *volumeBinder) wake(objs []api.Object) {
	for _, obj := range objs {
		switch obj := obj.(type) {
		case *corev1.PersistentVolumeClaim:
			c.loop.Enqueue(api.PersistentVolumeClaims.KeyOf(obj))
		case *corev1.PersistentVolume:
			c.loop.Enqueue(api.PersistentVolumes.KeyOf(obj))
		}
	}
}
