package controller

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

const (
	mirrorManager = "endpointslicemirroring-controller.k8s.io"
	// mirrorMost is how many addresses of a subset are mirrored.
	mirrorMost = 1000
	// leaderNote is on Endpoints that old programs elect their leader by.
	leaderNote = "control-plane.alpha.kubernetes.io/leader"
)

// sliceMirror writes EndpointSlices for Endpoints that somebody else keeps, of
// Services without a selector: what reads slices finds them too
// (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring).
type sliceMirror struct {
	services  *reconcile.Informer
	endpoints *reconcile.Informer
	recorder  *reconcile.Recorder
	slices    sliceWriter
}

func newSliceMirror(cfg Config) runner {
	c := &sliceMirror{services: cfg.Informers.For(api.Services), endpoints: cfg.Informers.For(api.Endpoints),
		recorder: cfg.Recorder.For("endpoint-slice-mirroring-controller")}
	loop := cfg.loop("endpointslice-mirroring", 4, c)
	c.slices = newSliceWriter(cfg, mirrorManager, loop)
	for _, informer := range []*reconcile.Informer{c.services, c.endpoints} {
		informer.OnChange(func(old, new api.Object) {
			if new == nil {
				new = old
			}
			loop.Enqueue(api.Services.Key(new.GetNamespace(), new.GetName()))
		})
	}
	return loop
}

// mirrored says whether Endpoints are for mirroring.
func mirrored(e *corev1.Endpoints) bool {
	_, elects := e.Annotations[leaderNote]
	return !elects && e.Labels[discoveryv1.LabelSkipMirror] != "true" && e.DeletionTimestamp == nil
}

// Reconcile implements reconcile.Reconciler; its keys are Services.
func (c *sliceMirror) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, _ := c.services.Get(key)
	svc, isService := obj.(*corev1.Service)
	obj, _ = c.endpoints.Get(api.Endpoints.Key(key.Namespace, key.Name))
	e, isEndpoints := obj.(*corev1.Endpoints)
	plan := slicePlan{}
	have := c.slices.of(key)
	if isService && isEndpoints && svc.Spec.Selector == nil && svc.DeletionTimestamp == nil && mirrored(e) {
		groups, skipped := mirrorGroups(e)
		if skipped > 0 {
			c.recorder.Event(e, corev1.EventTypeWarning, "TooManyAddressesToMirror",
				"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", mirrorMost, skipped)
		}
		plan = planGroups(mirrorParent(e), groups, have)
	} else {
		plan.remove = have
	}
	err := c.slices.apply(ctx, key, plan)
	if err != nil && !namespaceGoing(err) {
		if isEndpoints && !apierrors.IsConflict(err) {
			c.recorder.Event(e, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
				"Error updating EndpointSlices for Endpoints %s/%s: %v", e.Namespace, e.Name, err)
		}
		return 0, err
	}
	return 0, nil
}

// mirrorParent is whom the slices of Endpoints are like.
func mirrorParent(e *corev1.Endpoints) sliceParent {
	p := sliceParent{namespace: e.Namespace, name: e.Name, owner: *controllerRef(e, api.Endpoints), labels: map[string]string{}, annotations: map[string]string{}}
	maps.Copy(p.labels, e.Labels)
	p.labels[discoveryv1.LabelServiceName], p.labels[discoveryv1.LabelManagedBy] = e.Name, mirrorManager
	maps.Copy(p.annotations, e.Annotations)
	delete(p.annotations, corev1.LastAppliedConfigAnnotation)
	delete(p.annotations, corev1.EndpointsLastChangeTriggerTime)
	return p
}

// mirrorGroups are the addresses of Endpoints by family and ports. skipped are
// those beyond what is mirrored.
func mirrorGroups(e *corev1.Endpoints) (out []*endpointGroup, skipped int) {
	groups := map[string]*endpointGroup{}
	for i := range e.Subsets {
		s := &e.Subsets[i]
		var ports []discoveryv1.EndpointPort
		for _, p := range s.Ports {
			ports = append(ports, discoveryv1.EndpointPort{Name: new(p.Name), Port: new(p.Port), Protocol: new(p.Protocol), AppProtocol: p.AppProtocol})
		}
		n := 0
		for _, ready := range []bool{true, false} {
			addresses := s.Addresses
			if !ready {
				addresses = s.NotReadyAddresses
			}
			for _, a := range addresses {
				ip, err := netip.ParseAddr(a.IP)
				if err != nil {
					continue // the API refuses such an address
				}
				if n++; n > mirrorMost {
					skipped++
					continue
				}
				family := discoveryv1.AddressTypeIPv4
				if ip.Is6() {
					family = discoveryv1.AddressTypeIPv6
				}
				key := string(family) + " " + portsKey(ports)
				if groups[key] == nil {
					groups[key] = &endpointGroup{family: family, ports: ports}
				}
				groups[key].endpoints = append(groups[key].endpoints, mirroredEndpoint(a, ready))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, groups[key])
	}
	return out, skipped
}

func mirroredEndpoint(a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName}
	if a.Hostname != "" {
		out.Hostname = &a.Hostname
	}
	return out
}

// sliceParent is what slices are written for: where they are, whose they are
// and what they carry.
type sliceParent struct {
	namespace, name string
	owner           metav1.OwnerReference
	labels          map[string]string
	annotations     map[string]string // nil: those of the slice are left alone
}

// slice is a new slice without endpoints.
func (p sliceParent) slice(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: api.EndpointSlices.GroupVersion(), Kind: api.EndpointSlices.Kind},
		ObjectMeta: metav1.ObjectMeta{GenerateName: p.name + "-", Namespace: p.namespace, Labels: maps.Clone(p.labels),
			Annotations: maps.Clone(p.annotations), OwnerReferences: []metav1.OwnerReference{p.owner}},
		AddressType: family, Ports: ports,
	}
}
