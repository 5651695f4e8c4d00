package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// admitPod wants the pod's service account to exist and takes its pull
// secrets. The account "default" may come later: its controller may not have
// seen the namespace yet, and nothing here needs more than its name.
func (r *Registry) admitPod(ctx context.Context, pod *corev1.Pod) error {
	if err := r.admitPriority(ctx, pod); err != nil {
		return err
	}
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = kinds.DefaultServiceAccount
	}
	key := api.ServiceAccounts.Key(pod.Namespace, name)
	k, err := r.objectKind(key)
	if err != nil {
		return err
	}
	_, obj, err := r.load(ctx, k, key)
	if errors.Is(err, store.ErrNotFound) {
		if name == kinds.DefaultServiceAccount {
			return nil
		}
		return apierrors.NewForbidden(api.Pods.GroupResource(), pod.Name,
			fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", pod.Namespace, name, name))
	}
	if err != nil {
		return err
	}
	if account, ok := obj.(*corev1.ServiceAccount); ok && len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}
