package api

import corev1 "k8s.io/api/core/v1"

// Wherry's own provisioner makes volumes of directories on one node: the
// controller writes the PersistentVolume, the node's agent keeps the directory.
const (
	// LocalProvisioner is its name in storage classes and on its volumes.
	LocalProvisioner = "wherry.dev/local"
	// LocalStorageClass is the class that every cluster has from the start.
	LocalStorageClass = "local"
	// AnnotationClaims is where a node keeps the directories of such volumes, one
	// below it for each, named after the volume.
	AnnotationClaims = "wherry.dev/claims-directory"
	// AnnotationProvisioner says on a volume who has made it.
	AnnotationProvisioner = "pv.kubernetes.io/provisioned-by"
)

// The finalizers that keep claims and volumes which are in use
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection).
const (
	ClaimProtection  = "kubernetes.io/pvc-protection"
	VolumeProtection = "kubernetes.io/pv-protection"
)

// ClaimOf is the name of the claim behind a pod's volume; "" for one of another
// kind. A generic ephemeral volume has a claim of its own, named after pod and
// volume
// (https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#persistentvolumeclaim-naming).
func ClaimOf(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}
