package registry

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// apiService is the name of the Service that leads to the API server.
const apiService = "kubernetes"

// APIServiceIP is the address of the Service default/kubernetes: the first one
// of the service network.
func (r *Registry) APIServiceIP() netip.Addr { return r.ips.api() }

// Bootstrap creates what every cluster has: the namespaces default,
// kube-system, kube-public and kube-node-lease, the priority classes of the
// system, what flow control must have, the storage class of the nodes' own disks,
// the network of Services and the Service default/kubernetes. It is idempotent. Where the API server listens is told to
// PublishAPIServer.
func (r *Registry) Bootstrap(ctx context.Context) error {
	if err := r.store.WaitReady(ctx); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := r.ensureBasics(ctx); err != nil {
		return err
	}
	list, err := r.List(ctx, api.CustomResourceDefinitions.Key("", ""), api.ListOptions{})
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	// A definition that cannot be served any more is no reason not to start.
	if _, err := r.definitions.sync(ctx, list); err != nil {
		r.log.Warn("not all custom resources are served", "error", err)
	}
	return nil
}

// ensureBasics creates what of a cluster's own objects is missing, at first or
// because somebody has deleted it: without kube-node-lease, for instance, no
// node can say that it lives.
func (r *Registry) ensureBasics(ctx context.Context) error {
	var basics []basic
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		basics = append(basics, basic{api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}})
	}
	for _, class := range kinds.SystemPriorityClasses() {
		basics = append(basics, basic{api.PriorityClasses, class})
	}
	for _, level := range kinds.MandatoryPriorityLevels() {
		basics = append(basics, basic{api.PriorityLevelConfigurations, level})
	}
	for _, schema := range kinds.MandatoryFlowSchemas() {
		basics = append(basics, basic{api.FlowSchemas, schema})
	}
	basics = append(basics, basic{api.StorageClasses, kinds.LocalStorageClass()})
	for _, component := range kinds.Components() {
		basics = append(basics, basic{api.ComponentStatuses, component})
	}
	basics = append(basics, basic{api.ServiceCIDRs, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: apiService},
		Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{r.ips.prefix.String()}}}})
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: apiService, Labels: apiLabels()},
		Spec: corev1.ServiceSpec{
			ClusterIP: r.APIServiceIP().String(),
			Ports: []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(6443),
				Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, b := range append(basics, basic{api.Services, service}) {
		if err := r.ensure(ctx, b.resource, b.object); err != nil {
			return err
		}
	}
	return nil
}

// ensureFlows creates what Kubernetes suggests for flow control, all at once: a
// cluster starts without waiting for it.
func (r *Registry) ensureFlows(ctx context.Context) error {
	var all errgroup.Group
	for _, level := range kinds.SuggestedPriorityLevels() {
		all.Go(func() error { return r.ensure(ctx, api.PriorityLevelConfigurations, level) })
	}
	for _, schema := range kinds.SuggestedFlowSchemas() {
		all.Go(func() error { return r.ensure(ctx, api.FlowSchemas, schema) })
	}
	return all.Wait()
}

// basic is an object that every cluster has.
type basic struct {
	resource api.Resource
	object   api.Object
}

func apiLabels() map[string]string {
	return map[string]string{"component": "apiserver", "provider": "kubernetes"}
}

// ensure creates an object unless there is one.
func (r *Registry) ensure(ctx context.Context, res api.Resource, obj api.Object) error {
	key := res.KeyOf(obj)
	if _, err := r.Get(ctx, key, api.GetOptions{}); err == nil || !apierrors.IsNotFound(err) {
		return err
	}
	if _, err := r.Create(ctx, key, obj, api.CreateOptions{FieldManager: serverManager}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("bootstrap %s: %w", key, err)
	}
	return nil
}

// PublishAPIServer makes the Service default/kubernetes lead to these
// addresses, which must share one port. It is idempotent; Bootstrap comes
// first.
func (r *Registry) PublishAPIServer(ctx context.Context, addrs ...netip.AddrPort) error {
	if len(addrs) == 0 {
		return fmt.Errorf("publish API server: no address given")
	}
	port, name, protocol, ready := int32(addrs[0].Port()), "https", corev1.ProtocolTCP, true
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: apiService}
	old := &corev1.Endpoints{ObjectMeta: meta}
	old.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: name, Port: port, Protocol: protocol}}}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}}}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: apiService}
	for _, a := range addrs {
		if int32(a.Port()) != port || !a.Addr().Unmap().Is4() {
			return fmt.Errorf("publish API server: %s: want IPv4 addresses with one port", a)
		}
		ip := a.Addr().Unmap().String()
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: ip})
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	old.Subsets = []corev1.EndpointSubset{subset}
	if err := r.put(ctx, api.Endpoints, old); err != nil {
		return err
	}
	if err := r.put(ctx, api.EndpointSlices, slice); err != nil {
		return err
	}
	return r.retarget(ctx, port)
}

// put creates an object or replaces the one that is there.
func (r *Registry) put(ctx context.Context, res api.Resource, obj api.Object) error {
	key := res.KeyOf(obj)
	_, err := r.Update(ctx, key, obj, api.UpdateOptions{FieldManager: serverManager})
	if apierrors.IsNotFound(err) {
		_, err = r.Create(ctx, key, obj, api.CreateOptions{FieldManager: serverManager})
	}
	if err != nil {
		return fmt.Errorf("publish API server: %w", err)
	}
	return nil
}

// retarget writes the API server's port into the Service.
func (r *Registry) retarget(ctx context.Context, port int32) error {
	service, err := api.Get[*corev1.Service](ctx, r, api.Services.Key(metav1.NamespaceDefault, apiService))
	if err != nil {
		return fmt.Errorf("publish API server: %w", err)
	}
	changed := service.DeepCopy()
	for i := range changed.Spec.Ports {
		changed.Spec.Ports[i].TargetPort = intstr.FromInt32(port)
	}
	if apiequality.Semantic.DeepEqual(changed, service) {
		return nil
	}
	return r.put(ctx, api.Services, changed)
}
