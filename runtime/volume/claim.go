package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// claimed finds the directory behind a bound claim. Volumes of the kinds
// hostPath and local are on this node; the scheduler has seen to that. Those of
// the node-local provisioner are below claims, which may have moved since, and
// are made when they are first used.
func (s *Set) claimed(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, claims string) (string, error) {
	name := api.ClaimOf(pod, v)
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("error processing PVC %s/%s: %w", pod.Namespace, name, err)
	}
	claim, err := s.src.Claim(ctx, pod.Namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("persistentvolumeclaim %q not found", name)
	case err != nil:
		return fail(err)
	case claim.DeletionTimestamp != nil:
		return fail(errors.New("PVC is being deleted"))
	case claim.Status.Phase != corev1.ClaimBound || claim.Spec.VolumeName == "":
		return fail(errors.New("PVC is not bound"))
	}
	pv, err := s.src.PersistentVolume(ctx, claim.Spec.VolumeName)
	if err != nil {
		return fail(fmt.Errorf("read PersistentVolume %q: %w", claim.Spec.VolumeName, err))
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != claim.UID {
		return fail(fmt.Errorf("PersistentVolume %q is bound to another claim", pv.Name))
	}
	switch {
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path, checkHostPath(pv.Spec.HostPath)
	case pv.Spec.Local != nil && pv.Annotations[api.AnnotationProvisioner] == api.LocalProvisioner:
		at := filepath.Join(claims, pv.Name)
		return at, makeOpenDir(at)
	case pv.Spec.Local != nil:
		if _, err := os.Stat(pv.Spec.Local.Path); err != nil {
			return fail(fmt.Errorf("the local volume's path is not on this node: %w", err))
		}
		return pv.Spec.Local.Path, nil
	}
	return fail(fmt.Errorf("PersistentVolume %q is of a kind that this node does not support; use hostPath or local", pv.Name))
}

// readOnly reports whether a volume can only be read, whatever its mounts say.
func readOnly(v *corev1.Volume) bool {
	return apiBacked(v) || v.Image != nil || v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
}
