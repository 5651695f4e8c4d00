package agent

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// handled looks whether this node has what the pod's RuntimeClass asks for
// (https://kubernetes.io/docs/concepts/containers/runtime-class/). The errors
// are those of a kubelet with containerd.
func (w *worker) handled(ctx context.Context, pod *corev1.Pod) error {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return nil
	}
	name := *pod.Spec.RuntimeClassName
	class, err := api.Get[*nodev1.RuntimeClass](ctx, w.agent.cfg.Client, api.RuntimeClasses.Key("", name))
	switch {
	case apierrors.IsNotFound(err):
		return apierrors.NewNotFound(schema.GroupResource{Group: api.RuntimeClasses.Group, Resource: api.RuntimeClasses.Singular}, name)
	case err != nil:
		return fmt.Errorf("failed to lookup RuntimeClass %s: %w", name, err)
	case !slices.Contains(w.agent.cfg.RuntimeHandlers, class.Handler):
		return fmt.Errorf("rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for %q is configured", class.Handler)
	}
	return nil
}
