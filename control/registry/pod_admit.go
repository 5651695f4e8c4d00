package registry

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// admitPod judges what depends on the cluster.
func (r *Registry) admitPod(ctx context.Context, pod *corev1.Pod) error {
	return r.admitPriority(ctx, pod)
}
