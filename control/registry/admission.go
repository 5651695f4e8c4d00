package registry

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// admitCreate lets objects be created only in namespaces that exist and are
// not on their way out (the NamespaceLifecycle admission of Kubernetes).
func (r *Registry) admitCreate(ctx context.Context, k *kind, key api.Key) error {
	if !k.resource.Namespaced {
		return nil
	}
	nsKey := api.Namespaces.Key("", key.Namespace)
	namespaces, err := r.kindOf(nsKey)
	if err != nil {
		return err
	}
	_, obj, err := r.load(ctx, namespaces, nsKey)
	if errors.Is(err, store.ErrNotFound) {
		return apierrors.NewNotFound(nsKey.GroupResource(), key.Namespace)
	}
	if err != nil {
		return err
	}
	ns, ok := obj.(*corev1.Namespace)
	if !ok || ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	refused := apierrors.NewForbidden(key.GroupResource(), key.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", key.Namespace))
	refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", key.Namespace),
		Field:   "metadata.namespace",
	})
	return refused
}
