package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// byService is the index of slices by namespace/name of their Service.
const byService = "service"

// endpointSlices keeps the EndpointSlices of Services with a selector.
type endpointSlices struct {
	services *reconcile.Informer
	pods     *reconcile.Informer
	nodes    *reconcile.Informer
	recorder *reconcile.Recorder
	slices   sliceWriter
	pace     pace
}

func newEndpointSlices(cfg Config) runner {
	c := &endpointSlices{
		pace:     pace{each: paceEach},
		services: cfg.Informers.For(api.Services), pods: cfg.Informers.For(api.Pods), nodes: cfg.Informers.For(api.Nodes),
		recorder: cfg.Recorder.For("endpoint-slice-controller"),
	}
	loop := cfg.loop("endpointslice", 8, c)
	watchServicePods(c.services, c.pods, loop)
	c.nodes.OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Node)
		after, _ := new.(*corev1.Node)
		if before != nil && after != nil && sameForShares(before, after) {
			return
		}
		for _, svc := range reconcile.As[*corev1.Service](c.services.List("")) {
			if topologyAware(svc) {
				loop.Enqueue(api.Services.KeyOf(svc))
			}
		}
	})
	c.slices = newSliceWriter(cfg, sliceManager, loop)
	return loop
}

// sliceWriter reads and writes the slices of one manager, by Service.
type sliceWriter struct {
	client  api.Client
	manager string
	slices  *reconcile.Informer
	written *writtenSlices
}

// newSliceWriter makes changes of the manager's slices wake the loop, whose keys
// are Services.
func newSliceWriter(cfg Config, manager string, loop *reconcile.Loop) sliceWriter {
	c := sliceWriter{client: cfg.Client, manager: manager, slices: cfg.Informers.For(api.EndpointSlices),
		written: &writtenSlices{slices: map[api.Key]map[types.UID]*discoveryv1.EndpointSlice{}}}
	c.slices.AddIndex(byService, func(obj api.Object) []string {
		if name := obj.GetLabels()[discoveryv1.LabelServiceName]; name != "" {
			return []string{obj.GetNamespace() + "/" + name}
		}
		return nil
	})
	c.slices.OnChange(func(old, new api.Object) {
		for _, s := range []api.Object{old, new} {
			if s == nil || s.GetLabels()[discoveryv1.LabelManagedBy] != manager {
				continue
			}
			if name := s.GetLabels()[discoveryv1.LabelServiceName]; name != "" {
				key := api.Services.Key(s.GetNamespace(), name)
				c.written.seen(key, s, new == nil)
				loop.Enqueue(key)
			}
		}
	})
	return c
}

// of are the manager's slices of a Service as they are now.
func (c sliceWriter) of(service api.Key) (out []*discoveryv1.EndpointSlice) {
	for _, s := range c.written.merge(service, reconcile.As[*discoveryv1.EndpointSlice](c.slices.ByIndex(byService, service.Namespace+"/"+service.Name))) {
		if s.Labels[discoveryv1.LabelManagedBy] == c.manager {
			out = append(out, s)
		}
	}
	return out
}

// watchServicePods queues a Service when it changes and when a pod that it
// selects, or did, comes, goes or changes in what endpoints show.
func watchServicePods(services, pods *reconcile.Informer, loop *reconcile.Loop) {
	services.OnChange(func(old, new api.Object) {
		if new == nil {
			new = old
		}
		loop.Enqueue(api.Services.KeyOf(new))
	})
	pods.OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Pod)
		after, _ := new.(*corev1.Pod)
		if before != nil && after != nil && sameEndpoint(before, after) {
			return
		}
		for _, p := range []*corev1.Pod{before, after} {
			if p == nil {
				continue
			}
			for _, svc := range reconcile.As[*corev1.Service](services.List(p.Namespace)) {
				if needsEndpoints(svc) && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
					loop.Enqueue(api.Services.KeyOf(svc))
				}
			}
		}
	})
}

// sameEndpoint says that no endpoint can tell the two states apart.
func sameEndpoint(a, b *corev1.Pod) bool {
	return a.Status.PodIP == b.Status.PodIP && equality.Semantic.DeepEqual(a.Status.PodIPs, b.Status.PodIPs) &&
		isReady(a) == isReady(b) && podFinished(a) == podFinished(b) &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		a.Spec.NodeName == b.Spec.NodeName && equality.Semantic.DeepEqual(a.Labels, b.Labels)
}

// Reconcile implements reconcile.Reconciler; its keys are Services.
func (c *endpointSlices) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := c.services.Get(key)
	svc, isService := obj.(*corev1.Service)
	if !ok || !isService {
		c.slices.written.forget(key)
		c.pace.passed(key, 0, time.Time{})
		return 0, nil // the garbage collector takes the slices
	}
	if !needsEndpoints(svc) {
		return 0, nil
	}
	if rest := c.pace.wait(key, time.Now()); rest > 0 {
		return rest, nil
	}
	targets := targetsOf(svc, reconcile.As[*corev1.Pod](c.pods.List(svc.Namespace)))
	c.pace.passed(key, len(targets), time.Now())
	have := c.slices.of(key)
	plan := planSlices(svc, targets, have, c.places())
	err := c.slices.apply(ctx, key, plan)
	if err == nil {
		c.tell(svc, plan.notes, have)
	}
	if err == nil || namespaceGoing(err) {
		return 0, nil
	}
	if !apierrors.IsConflict(err) {
		c.recorder.Event(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
	}
	return 0, err
}

func (c *endpointSlices) zone(node string) string {
	if n, ok := c.nodes.Get(api.Nodes.Key("", node)); ok {
		return n.GetLabels()[corev1.LabelTopologyZone]
	}
	return ""
}

// apply creates and updates before it removes, so that no endpoint is missing
// in between.
func (c sliceWriter) apply(ctx context.Context, key api.Key, plan slicePlan) error {
	var errs []error
	keep := func(obj api.Object, err error) error {
		if s, ok := obj.(*discoveryv1.EndpointSlice); ok && err == nil {
			c.written.add(key, s)
		}
		return err
	}
	for _, s := range plan.create {
		if err := keep(c.client.Create(ctx, api.EndpointSlices.Key(s.Namespace, ""), s, api.CreateOptions{})); err != nil {
			errs = append(errs, fmt.Errorf("create an endpoint slice of %s: %w", key, err))
		}
	}
	for _, s := range plan.update {
		if err := keep(c.client.Update(ctx, api.EndpointSlices.KeyOf(s), s, api.UpdateOptions{})); err != nil {
			if apierrors.IsNotFound(err) {
				c.written.drop(key, s)
			}
			errs = append(errs, fmt.Errorf("update %s: %w", api.EndpointSlices.KeyOf(s), err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, s := range plan.remove {
		_, err := c.client.Delete(ctx, api.EndpointSlices.KeyOf(s), api.DeleteOptions{UID: &s.UID})
		c.written.drop(key, s)
		if ignoreGone(err) != nil {
			errs = append(errs, fmt.Errorf("delete %s: %w", api.EndpointSlices.KeyOf(s), err))
		}
	}
	return errors.Join(errs...)
}

// writtenSlices remembers what was written until the informer shows it, so
// that a late informer leads neither to a second slice nor to a conflict.
type writtenSlices struct {
	mu     sync.Mutex
	slices map[api.Key]map[types.UID]*discoveryv1.EndpointSlice
}

func (w *writtenSlices) add(service api.Key, s *discoveryv1.EndpointSlice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slices[service] == nil {
		w.slices[service] = map[types.UID]*discoveryv1.EndpointSlice{}
	}
	w.slices[service][s.UID] = s
}

// seen notes what the informer shows: a slice at least as new as the one that
// was written makes that one unnecessary.
func (w *writtenSlices) seen(service api.Key, s metav1.Object, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if have := w.slices[service][s.GetUID()]; have != nil && (gone || !older(s, have)) {
		delete(w.slices[service], s.GetUID())
	}
}

func (w *writtenSlices) drop(service api.Key, s metav1.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.slices[service], s.GetUID())
}

func (w *writtenSlices) forget(service api.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.slices, service)
}

// merge puts what was written in the place of what the informer still shows.
func (w *writtenSlices) merge(service api.Key, shown []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*discoveryv1.EndpointSlice
	present := map[types.UID]bool{}
	for _, s := range shown {
		present[s.UID] = true
		if newer := w.slices[service][s.UID]; newer != nil && older(s, newer) {
			s = newer
		}
		out = append(out, s)
	}
	for uid, s := range w.slices[service] {
		if !present[uid] {
			out = append(out, s)
		}
	}
	return out
}

// older compares resource versions, which are revisions of one store.
func older(a, b metav1.Object) bool {
	x, errX := api.ParseRevision(a.GetResourceVersion())
	y, errY := api.ParseRevision(b.GetResourceVersion())
	return errX == nil && errY == nil && x < y
}
