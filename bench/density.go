package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// Density is the scenario of many idle pods: one Deployment behind a Service,
// scaled up and down.
type Density struct {
	Client    api.Client
	Namespace string
	Name      string
	Image     string
	Port      int32 // the guest's port
}

// Setup makes the Deployment without replicas, and its Service, whose cluster
// address it returns.
func (d Density) Setup(ctx context.Context) (clusterIP string, err error) {
	a := Apply{Client: d.Client, Namespace: d.Namespace, Image: d.Image, Port: d.Port}
	deployment := a.deployment(d.Name)
	none := int32(0)
	deployment.Spec.Replicas = &none
	if _, err := d.Client.Create(ctx, d.key(), deployment, api.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create deployment: %w", err)
	}
	created, err := d.Client.Create(ctx, api.Services.Key(d.Namespace, d.Name), a.service(d.Name), api.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create service: %w", err)
	}
	service, ok := created.(*corev1.Service)
	if !ok {
		return "", fmt.Errorf("create service: got a %T", created)
	}
	return service.Spec.ClusterIP, nil
}

// Scale sets the number of replicas and returns how long it took until so many
// pods were available, no other pod was left, and the Service's endpoints were
// exactly those.
func (d Density) Scale(ctx context.Context, replicas int) (time.Duration, error) {
	began := time.Now()
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	if _, err := d.Client.Patch(ctx, d.key(), types.MergePatchType, []byte(patch), api.PatchOptions{}); err != nil {
		return 0, fmt.Errorf("scale to %d: %w", replicas, err)
	}
	return time.Since(began), errors.Join(d.available(ctx, replicas), d.pods(ctx, replicas), d.endpoints(ctx, replicas))
}

func (d Density) key() api.Key { return api.Deployments.Key(d.Namespace, d.Name) }
