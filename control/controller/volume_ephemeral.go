package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// newEphemeralVolumes makes the claims of pods' generic ephemeral volumes. The
// pod owns them, so that they go with it
// (https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes).
func newEphemeralVolumes(cfg Config) runner {
	pods, claims := cfg.Informers.For(api.Pods), cfg.Informers.For(api.PersistentVolumeClaims)
	indexClaimUse(pods)
	recorder := cfg.Recorder.For("ephemeral_volume")
	loop := cfg.loop("ephemeral-volume", 4, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, _ := pods.Get(key)
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.DeletionTimestamp != nil || podFinished(pod) {
			return 0, nil
		}
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
				continue
			}
			if err := cfg.ephemeralClaim(ctx, pod, v); err != nil {
				if !namespaceGoing(err) {
					recorder.Event(pod, corev1.EventTypeWarning, "EphemeralVolumeBindingFailed", "ephemeral volume %s: %v", v.Name, err)
				}
				return 0, err
			}
		}
		return 0, nil
	}))
	pods.OnChange(func(_, new api.Object) {
		if pod, ok := new.(*corev1.Pod); ok && hasEphemeral(pod) {
			loop.Enqueue(api.Pods.KeyOf(pod))
		}
	})
	claims.OnChange(func(old, new api.Object) {
		if new == nil { // deleted by hand, or one of another pod that was in the way
			for _, pod := range pods.ByIndex(byClaimUse, old.GetNamespace()+"/"+old.GetName()) {
				loop.Enqueue(api.Pods.KeyOf(pod))
			}
		}
	})
	return loop
}

func hasEphemeral(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Ephemeral != nil {
			return true
		}
	}
	return false
}

// ephemeralClaim makes the claim of one volume unless it is there.
func (cfg Config) ephemeralClaim(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	template := v.Ephemeral.VolumeClaimTemplate
	key := api.PersistentVolumeClaims.Key(pod.Namespace, api.ClaimOf(pod, v))
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*controllerRef(pod, api.Pods)}},
		Spec: *template.Spec.DeepCopy(),
	}
	have, err := api.Get[*corev1.PersistentVolumeClaim](ctx, cfg.Client, key)
	if apierrors.IsNotFound(err) {
		_, err = cfg.Client.Create(ctx, key, claim, api.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create PVC %s: %w", key.Name, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if !metav1.IsControlledBy(have, pod) {
		return fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", key.Namespace, key.Name, pod.Namespace, pod.Name)
	}
	return nil
}
