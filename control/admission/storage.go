package admission

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// inUseProtection gives each new claim and volume the finalizer that keeps it
// as long as it is used.
func inUseProtection() Plugin {
	return Plugin{Name: "StorageObjectInUseProtection", Mutate: func(_ context.Context, r *api.AdmissionRequest) error {
		finalizer := ""
		switch {
		case r.Is(api.PersistentVolumeClaims, api.Create):
			finalizer = api.ClaimProtection
		case r.Is(api.PersistentVolumes, api.Create):
			finalizer = api.VolumeProtection
		default:
			return nil
		}
		if have := r.Object.GetFinalizers(); !slices.Contains(have, finalizer) {
			r.Object.SetFinalizers(append(slices.Clone(have), finalizer))
		}
		return nil
	}}
}

// claimResize lets a bound claim ask for more only where its class can give it
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#persistentvolumeclaimresize).
func claimResize() Plugin {
	return Plugin{Name: "PersistentVolumeClaimResize", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		claim, _ := r.Object.(*corev1.PersistentVolumeClaim)
		old, _ := r.Old.(*corev1.PersistentVolumeClaim)
		if claim == nil || old == nil || !r.Is(api.PersistentVolumeClaims, api.Update) {
			return nil
		}
		size, was := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
		if size.Cmp(was) <= 0 {
			return nil
		}
		refuse := func(text string) error {
			return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, errors.New(text))
		}
		if old.Status.Phase != corev1.ClaimBound {
			return refuse("Only bound persistent volume claims can be expanded")
		}
		name, annotated := claim.Annotations[corev1.BetaStorageClassAnnotation]
		if !annotated && claim.Spec.StorageClassName != nil {
			name = *claim.Spec.StorageClassName
		}
		class, err := api.Get[*storagev1.StorageClass](ctx, r.Client, api.StorageClasses.Key("", name))
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if name == "" || err != nil || class.AllowVolumeExpansion == nil || !*class.AllowVolumeExpansion {
			return refuse("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
		}
		return nil
	}}
}
