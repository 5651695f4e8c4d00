package controller

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// newEndpoints keeps the Endpoints object of each Service with a selector, for
// clients that do not know EndpointSlices. Its keys are Services.
func newEndpoints(cfg Config) runner {
	c := &endpoints{
		pace:     pace{each: paceEach},
		client:   cfg.Client,
		services: cfg.Informers.For(api.Services), pods: cfg.Informers.For(api.Pods),
		objects: cfg.Informers.For(api.Endpoints),
	}
	loop := cfg.loop("endpoints", 4, c)
	watchServicePods(c.services, c.pods, loop)
	c.objects.OnChange(func(old, new api.Object) {
		if new == nil {
			new = old
		}
		loop.Enqueue(api.Services.KeyOf(new))
	})
	return loop
}

type endpoints struct {
	client   api.Client
	services *reconcile.Informer
	pods     *reconcile.Informer
	objects  *reconcile.Informer
	pace     pace
	written  latest
}

// Reconcile implements reconcile.Reconciler.
func (c *endpoints) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	target := api.Endpoints.Key(key.Namespace, key.Name)
	obj, _ := c.objects.Get(target)
	have, _ := c.written.of(target, obj).(*corev1.Endpoints)
	found, ok := c.services.Get(key)
	svc, isService := found.(*corev1.Service)
	if !ok || !isService {
		c.pace.passed(key, 0, time.Time{})
		// They have no owner reference; only this loop removes them.
		if have == nil || have.DeletionTimestamp != nil || have.Labels[endpointsManagedBy] != endpointsManager {
			return 0, nil
		}
		_, err := c.client.Delete(ctx, target, api.DeleteOptions{UID: &have.UID})
		return 0, ignoreGone(err)
	}
	if !needsEndpoints(svc) {
		return 0, nil
	}
	if rest := c.pace.wait(key, time.Now()); rest > 0 {
		return rest, nil
	}
	targets := targetsOf(svc, reconcile.As[*corev1.Pod](c.pods.List(svc.Namespace)))
	c.pace.passed(key, len(targets), time.Now())
	want := planEndpoints(svc, targets)
	if have == nil {
		_, err := c.client.Create(ctx, target, want, api.CreateOptions{})
		if err != nil && !namespaceGoing(err) && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("create %s: %w", target, err)
		}
		return 0, nil
	}
	annotations := maps.Clone(have.Annotations)
	delete(annotations, corev1.EndpointsOverCapacity)
	if want.Annotations != nil {
		if annotations == nil {
			annotations = map[string]string{}
		}
		maps.Copy(annotations, want.Annotations)
	}
	if equalSubsets(have.Subsets, want.Subsets) && equality.Semantic.DeepEqual(have.Labels, want.Labels) &&
		equality.Semantic.DeepEqual(have.Annotations, annotations) {
		return 0, nil
	}
	changed := have.DeepCopy()
	changed.Subsets, changed.Labels, changed.Annotations = want.Subsets, want.Labels, annotations
	stored, err := c.client.Update(ctx, target, changed, api.UpdateOptions{})
	if err != nil {
		return 0, ignoreGone(fmt.Errorf("update %s: %w", target, err))
	}
	c.written.add(target, stored)
	return 0, nil
}
