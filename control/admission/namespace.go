package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// immortal namespaces cannot be deleted.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// reviewGroup holds questions about access; they may be about a namespace that
// does not exist.
const reviewGroup = "authorization.k8s.io"

// namespaceLifecycle lets objects be created only in namespaces that exist and
// are not on their way out, and keeps the cluster's own namespaces.
func namespaceLifecycle() Plugin {
	return Plugin{Name: "NamespaceLifecycle", Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
		if r.Is(api.Namespaces, api.Delete) {
			if slices.Contains(immortal, r.Key.Name) {
				return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, errors.New("this namespace may not be deleted"))
			}
			return nil
		}
		if r.Key.Namespace == "" || r.Operation != api.Create || r.Key.Group == reviewGroup {
			return nil
		}
		ns, err := api.Get[*corev1.Namespace](ctx, r.Client, api.Namespaces.Key("", r.Key.Namespace))
		if err != nil {
			return err
		}
		if ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating {
			return nil
		}
		return terminating(r.Key)
	}}
}

// terminating is the refusal that clients know a namespace's end by.
func terminating(key api.Key) error {
	refused := apierrors.NewForbidden(key.GroupResource(), key.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", key.Namespace))
	refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", key.Namespace),
		Field:   "metadata.namespace",
	})
	return refused
}
