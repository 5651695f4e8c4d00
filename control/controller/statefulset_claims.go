package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// errStaleClaim says that a claim belongs to an earlier pod of the name and
// goes with it.
var errStaleClaim = errors.New("a claim of an earlier pod is still being deleted")

// ensureClaims makes the claims of an ordinal exist.
func (c *statefulSets) ensureClaims(ctx context.Context, set *appsv1.StatefulSet, ordinal int) error {
	for _, claim := range claimsOf(set, ordinal) {
		key := api.PersistentVolumeClaims.KeyOf(claim)
		if obj, ok := c.claims.Get(key); ok {
			if obj.GetDeletionTimestamp() != nil || c.stale(set, obj, ordinal) {
				return fmt.Errorf("%s: %w", key, errStaleClaim)
			}
			continue
		}
		pod := ordinalName(set, ordinal)
		_, err := c.client.Create(ctx, key, claim, api.CreateOptions{})
		switch {
		case err == nil:
			c.recorder.Event(set, corev1.EventTypeNormal, successfulCreate, "create Claim %s Pod %s in StatefulSet %s success", claim.Name, pod, set.Name)
		case !apierrors.IsAlreadyExists(err):
			if !namespaceGoing(err) {
				c.recorder.Event(set, corev1.EventTypeWarning, failedCreate, "create Claim %s for Pod %s in StatefulSet %s failed error: %v",
					claim.Name, pod, set.Name, err)
			}
			return fmt.Errorf("create %s: %w", key, err)
		}
	}
	return nil
}

// stale says that a claim is owned by a pod of the ordinal that is no more.
func (c *statefulSets) stale(set *appsv1.StatefulSet, claim api.Object, ordinal int) bool {
	pod, there := c.pods.Get(api.Pods.Key(set.Namespace, ordinalName(set, ordinal)))
	return slices.ContainsFunc(claim.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
		return isKind(&ref, api.Pods) && ref.Name == ordinalName(set, ordinal) && (!there || pod.GetUID() != ref.UID)
	})
}

// retain brings the owners of a pod's claims in line with the retention
// policy: the garbage collector deletes a claim with its owners.
func (c *statefulSets) retain(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod, condemned bool) error {
	ordinal, ok := ordinalOf(set, pod)
	if !ok {
		return nil
	}
	for _, t := range set.Spec.VolumeClaimTemplates {
		key := api.PersistentVolumeClaims.Key(set.Namespace, claimName(set, t.Name, ordinal))
		claim, ok := c.claims.Get(key)
		if !ok || claim.GetDeletionTimestamp() != nil {
			continue
		}
		refs := claimOwners(set, pod, claim.GetOwnerReferences(), condemned)
		if equality.Semantic.DeepEqual(refs, claim.GetOwnerReferences()) {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": claim.GetUID(), "resourceVersion": claim.GetResourceVersion(), "ownerReferences": refs,
		}})
		if err != nil {
			return err
		}
		if _, err := c.client.Patch(ctx, key, api.Patch{Type: types.MergePatchType, Data: patch}, api.PatchOptions{}); ignoreGone(err) != nil {
			return fmt.Errorf("write the owners of %s: %w", key, err)
		}
	}
	return nil
}

// claimOwners are the owners that a claim should have: those that are neither
// the set nor its pod stay. A claim goes with the set if the policy says so
// for deletion, and with its pod if the pod is beyond the wanted number and the
// policy says so for scaling.
func claimOwners(set *appsv1.StatefulSet, pod *corev1.Pod, have []metav1.OwnerReference, condemned bool) []metav1.OwnerReference {
	refs := slices.DeleteFunc(slices.Clone(have), func(ref metav1.OwnerReference) bool {
		return isKind(&ref, api.StatefulSets) && ref.Name == set.Name || isKind(&ref, api.Pods) && ref.Name == pod.Name
	})
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	if policy == nil {
		return refs
	}
	switch {
	case condemned && policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		refs = append(refs, *controllerRef(pod, api.Pods))
	case policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		refs = append(refs, *controllerRef(set, api.StatefulSets))
	}
	return refs
}
