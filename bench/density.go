package bench

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

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
	if _, err := d.Client.Patch(ctx, d.key(), api.Patch{Type: types.MergePatchType, Data: []byte(patch)}, api.PatchOptions{}); err != nil {
		return 0, fmt.Errorf("scale to %d: %w", replicas, err)
	}
	for _, reached := range []func(context.Context, int) error{d.available, d.pods, d.endpoints} {
		if err := reached(ctx, replicas); err != nil {
			return time.Since(began), err
		}
	}
	return time.Since(began), nil
}

func (d Density) key() api.Key { return api.Deployments.Key(d.Namespace, d.Name) }

// available waits until the Deployment says that so many pods are available.
func (d Density) available(ctx context.Context, replicas int) error {
	return d.follow(ctx, api.Deployments, fields.OneTermEqualSelector("metadata.name", d.Name), nil, func(state map[string]api.Object) bool {
		deployment, ok := state[d.Name].(*appsv1.Deployment)
		return ok && deployment.Status.ObservedGeneration >= deployment.Generation &&
			int(deployment.Status.Replicas) == replicas && int(deployment.Status.AvailableReplicas) == replicas
	})
}

// pods waits until there are as many pods as replicas, terminating ones
// included.
func (d Density) pods(ctx context.Context, replicas int) error {
	return d.follow(ctx, api.Pods, nil, labels.SelectorFromSet(labels.Set{"bench": d.Name}), func(state map[string]api.Object) bool {
		return len(state) == replicas
	})
}

// endpoints waits until the Service has as many ready endpoints as replicas.
func (d Density) endpoints(ctx context.Context, replicas int) error {
	selector := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: d.Name})
	return d.follow(ctx, api.EndpointSlices, nil, selector, func(state map[string]api.Object) bool {
		ready, all := 0, 0
		for _, obj := range state {
			slice, ok := obj.(*discoveryv1.EndpointSlice)
			if !ok {
				continue
			}
			all += len(slice.Endpoints)
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					ready++
				}
			}
		}
		return all == replicas && ready == replicas
	})
}

// follow keeps a collection's objects by name until done likes them.
func (d Density) follow(ctx context.Context, r api.Resource, byField fields.Selector, byLabel labels.Selector, done func(map[string]api.Object) bool) error {
	options := api.ListOptions{Fields: byField, Labels: byLabel}
	list, err := d.Client.List(ctx, r.Key(d.Namespace, ""), options)
	if err != nil {
		return fmt.Errorf("list %s: %w", r.Name, err)
	}
	state := make(map[string]api.Object, len(list.Items))
	for _, obj := range list.Items {
		state[obj.GetName()] = obj
	}
	options.ResourceVersion = list.ResourceVersion
	events, err := d.Client.Watch(ctx, r.Key(d.Namespace, ""), options)
	if err != nil {
		return fmt.Errorf("watch %s: %w", r.Name, err)
	}
	defer events.Stop()
	for !done(state) {
		event, err := events.Next(ctx)
		if err != nil {
			return fmt.Errorf("wait for %s (%d there): %w", r.Name, len(state), err)
		}
		if event.Type == watch.Deleted {
			delete(state, event.Object.GetName())
		} else {
			state[event.Object.GetName()] = event.Object
		}
	}
	return nil
}
