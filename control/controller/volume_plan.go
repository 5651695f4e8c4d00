package controller

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
)

// note is an event to be told; the zero value is none.
type note struct{ kind, reason, message string }

func warn(reason, format string, args ...any) note {
	return note{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

func tell(reason, format string, args ...any) note {
	return note{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

// claimFacts are what a claim's next step depends on.
type claimFacts struct {
	claim      *corev1.PersistentVolumeClaim
	named      *corev1.PersistentVolume // that spec.volumeName names, nil: not there
	candidates []*corev1.PersistentVolume
	class      *storagev1.StorageClass // of the claim, nil: not there
	consumer   string                  // a pod that waits for the claim, "": none
}

// claimStep is what to do next for a claim: bind it, have a volume made, or
// write a phase ("": nothing).
type claimStep struct {
	bind      *corev1.PersistentVolume
	provision bool
	phase     corev1.PersistentVolumeClaimPhase
	why       note
}

// planClaim is the life of a claim: the annotation pv.kubernetes.io/bind-completed
// tells one that is looking for a volume from one that has had one.
func planClaim(f claimFacts) claimStep {
	if _, done := f.claim.Annotations[volume.AnnBindCompleted]; done {
		return planBound(f)
	}
	if f.claim.DeletionTimestamp != nil {
		return claimStep{}
	}
	if f.claim.Spec.VolumeName != "" {
		return planNamed(f)
	}
	return planUnbound(f)
}

// planUnbound finds a volume for a claim that names none.
func planUnbound(f claimFacts) claimStep {
	waits := f.class != nil && f.class.VolumeBindingMode != nil && *f.class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	waits = waits && f.claim.Annotations[volume.AnnSelectedNode] == ""
	fitting := slices.DeleteFunc(slices.Clone(f.candidates), func(pv *corev1.PersistentVolume) bool { return !volume.CheckAccessModes(f.claim, pv) })
	pv, err := volume.FindMatchingVolume(f.claim, fitting, nil, nil, waits, true)
	step := claimStep{phase: corev1.ClaimPending}
	switch {
	case err != nil:
		step.why = warn("FailedBinding", "%v", err)
	case pv != nil:
		return claimStep{bind: pv}
	case waits && f.consumer != "":
		step.why = tell("WaitForPodScheduled", "waiting for pod %s to be scheduled", f.consumer)
	case waits:
		step.why = tell("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case volume.GetPersistentVolumeClaimClass(f.claim) == "":
		step.why = tell("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case f.class == nil:
		step.why = warn("ProvisioningFailed", "storageclass.storage.k8s.io %q not found", volume.GetPersistentVolumeClaimClass(f.claim))
	default:
		return claimStep{provision: true}
	}
	return step
}

// planNamed is for a claim whose author has chosen the volume.
func planNamed(f claimFacts) claimStep {
	claim, pv := f.claim, f.named
	step := claimStep{phase: corev1.ClaimPending}
	switch {
	case pv == nil: // it may come yet
	case pv.Spec.ClaimRef == nil:
		if why := unfit(pv, claim); why != "" {
			step.why = warn("VolumeMismatch", "Cannot bind to requested volume %q: %s", pv.Name, why)
			return step
		}
		return claimStep{bind: pv}
	case volume.IsVolumeBoundToClaim(pv, claim):
		return claimStep{bind: pv}
	default:
		step.why = warn("FailedBinding", "volume %q already bound to a different claim.", pv.Name)
	}
	return step
}

// unfit says why a volume does not do for a claim that asks for it by name.
func unfit(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) string {
	size, want := pv.Spec.Capacity[corev1.ResourceStorage], claim.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case pv.DeletionTimestamp != nil:
		return "the volume is marked for deletion"
	case size.Cmp(want) < 0:
		return "requested PV is too small"
	case volume.GetPersistentVolumeClass(pv) != volume.GetPersistentVolumeClaimClass(claim):
		return "storageClassName does not match"
	case volume.CheckVolumeModeMismatches(&claim.Spec, &pv.Spec):
		return "incompatible volumeMode"
	case !volume.CheckAccessModes(claim, pv):
		return "incompatible accessMode"
	}
	return ""
}

// planBound keeps a binding that was completed once: it is never looked for
// anew, since the data is where it was.
func planBound(f claimFacts) claimStep {
	claim, pv := f.claim, f.named
	lost := func(reason, message string) claimStep {
		step := claimStep{phase: corev1.ClaimLost}
		if claim.Status.Phase != corev1.ClaimLost {
			step.why = warn(reason, "%s", message)
		}
		return step
	}
	switch {
	case claim.Spec.VolumeName == "":
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case pv == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID == claim.UID:
		return claimStep{bind: pv}
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// boundClaim is a claim that has got a volume; dirty says whether that changes
// it.
func boundClaim(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) (next *corev1.PersistentVolumeClaim, dirty bool) {
	next = claim.DeepCopy()
	if next.Spec.VolumeName != pv.Name {
		next.Spec.VolumeName, dirty = pv.Name, true
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	if _, ok := next.Annotations[volume.AnnBindCompleted]; !ok {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBindCompleted, "yes")
		dirty = true
	}
	return next, dirty
}

// volumeStep is what to do next for a volume.
type volumeStep struct {
	phase  corev1.PersistentVolumePhase // "": leave it
	free   *corev1.PersistentVolume     // to be written: the claim is not its any more
	remove bool
	wake   bool // its claim has something to do
	why    note
}

// planVolume is the life of a volume. claim is the one that it is given to, nil
// when there is none, or none any more.
func planVolume(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) volumeStep {
	ref := pv.Spec.ClaimRef
	switch {
	case ref == nil:
		return volumeStep{phase: corev1.VolumeAvailable}
	case ref.UID == "": // kept for a claim that may come
		return volumeStep{phase: corev1.VolumeAvailable, wake: claim != nil}
	case claim == nil:
		return reclaim(pv)
	case claim.Spec.VolumeName == pv.Name:
		return volumeStep{phase: corev1.VolumeBound}
	case claim.Spec.VolumeName == "":
		step := volumeStep{wake: true}
		if volume.CheckVolumeModeMismatches(&claim.Spec, &pv.Spec) {
			step.why = warn("VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", claim.Name)
		}
		return step
	}
	// The claim has another volume.
	if pv.Annotations[volume.AnnDynamicallyProvisioned] != "" && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		return reclaim(pv) // made for the claim, and too late
	}
	free := pv.DeepCopy()
	if _, ours := pv.Annotations[volume.AnnBoundByController]; ours {
		free.Spec.ClaimRef = nil
		delete(free.Annotations, volume.AnnBoundByController)
	} else {
		free.Spec.ClaimRef.UID = ""
	}
	return volumeStep{phase: corev1.VolumeAvailable, free: free}
}

// reclaim is what becomes of a volume whose claim is gone.
func reclaim(pv *corev1.PersistentVolume) volumeStep {
	released := volumeStep{phase: corev1.VolumeReleased}
	failed := pv.Status.Phase == corev1.VolumeFailed
	switch pv.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimDelete:
		switch pv.Annotations[volume.AnnDynamicallyProvisioned] {
		case api.LocalProvisioner:
			released.remove = true
		case "":
			return volumeStep{phase: corev1.VolumeFailed, why: warn("VolumeFailedDelete",
				"error getting deleter volume plugin for volume %q: no deletable volume plugin matched", pv.Name)}
		}
	case corev1.PersistentVolumeReclaimRecycle:
		return volumeStep{phase: corev1.VolumeFailed, why: warn("VolumeFailedRecycle", "No recycler plugin found for the volume!")}
	}
	if failed && !released.remove {
		return volumeStep{} // whoever deletes it has failed, and tells so
	}
	return released
}
