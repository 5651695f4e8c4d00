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
	service, err := d.setup(ctx, corev1.ServiceTypeClusterIP)
	if err != nil {
		return "", err
	}
	return service.Spec.ClusterIP, nil
}

func (d Density) setup(ctx context.Context, kind corev1.ServiceType) (*corev1.Service, error) {
	a := Apply{Client: d.Client, Namespace: d.Namespace, Image: d.Image, Port: d.Port}
	deployment := a.deployment(d.Name)
	deployment.Spec.Replicas = new(int32)
	if _, err := d.Client.Create(ctx, d.key(), deployment, api.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("create deployment: %w", err)
	}
	wanted := a.service(d.Name)
	wanted.Spec.Type = kind
	created, err := d.Client.Create(ctx, api.Services.Key(d.Namespace, d.Name), wanted, api.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create service: %w", err)
	}
	service, ok := created.(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("create service: got a %T", created)
	}
	return service, nil
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

// drain scales a Deployment without a Service to none.
func (d Density) drain(ctx context.Context) error {
	if _, err := d.Client.Patch(ctx, d.key(), api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":0}}`)}, api.PatchOptions{}); err != nil {
		return fmt.Errorf("scale to none: %w", err)
	}
	return d.pods(ctx, 0)
}

func (d Density) key() api.Key { return api.Deployments.Key(d.Namespace, d.Name) }

// available waits until the Deployment says that so many pods are available.
func (d Density) available(ctx context.Context, replicas int) error {
	options := api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", d.Name)}
	return follow(ctx, d.Client, api.Deployments.Key(d.Namespace, ""), options, func(state map[string]api.Object) bool {
		deployment, ok := state[d.Name].(*appsv1.Deployment)
		return ok && deployment.Status.ObservedGeneration >= deployment.Generation &&
			int(deployment.Status.Replicas) == replicas && int(deployment.Status.AvailableReplicas) == replicas
	})
}

// pods waits until there are as many pods as replicas, terminating ones
// included.
func (d Density) pods(ctx context.Context, replicas int) error {
	options := api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"bench": d.Name})}
	return follow(ctx, d.Client, api.Pods.Key(d.Namespace, ""), options, func(state map[string]api.Object) bool {
		return len(state) == replicas
	})
}

// endpoints waits until the Service has as many ready endpoints as replicas.
func (d Density) endpoints(ctx context.Context, replicas int) error {
	options := api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: d.Name})}
	return follow(ctx, d.Client, api.EndpointSlices.Key(d.Namespace, ""), options, func(state map[string]api.Object) bool {
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

// quietTime is how long no event comes when all are written.
const quietTime = time.Second

// Quiet waits until all events of the namespace are written: they come after
// everything else, so that those who wait for pods do not wait for events.
func (d Density) Quiet(ctx context.Context) error {
	key := api.Events.Key(d.Namespace, "")
	list, err := d.Client.List(ctx, key, api.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list events: %w", err)
	}
	events, err := d.Client.Watch(ctx, key, api.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	defer events.Stop()
	for {
		waiting, cancel := context.WithTimeout(ctx, quietTime)
		_, err := events.Next(waiting)
		quiet := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		if quiet {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for the end of events: %w", err)
		}
	}
}

// follow keeps a collection's objects by name until done likes them.
func follow(ctx context.Context, client api.Client, key api.Key, options api.ListOptions, done func(map[string]api.Object) bool) error {
	list, err := client.List(ctx, key, options)
	if err != nil {
		return fmt.Errorf("list %s: %w", key.Resource, err)
	}
	state := make(map[string]api.Object, len(list.Items))
	for _, obj := range list.Items {
		state[obj.GetName()] = obj
	}
	options.ResourceVersion = list.ResourceVersion
	events, err := client.Watch(ctx, key, options)
	if err != nil {
		return fmt.Errorf("watch %s: %w", key.Resource, err)
	}
	defer events.Stop()
	for !done(state) {
		event, err := events.Next(ctx)
		if err != nil {
			return fmt.Errorf("wait for %s (%d there): %w", key.Resource, len(state), err)
		}
		if event.Type == watch.Deleted {
			delete(state, event.Object.GetName())
		} else {
			state[event.Object.GetName()] = event.Object
		}
	}
	return nil
}
