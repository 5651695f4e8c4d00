package registry

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/custom"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/registry/managed"
)

// strategy is a Strategy of any kind.
type strategy interface {
	kind(types *api.Types, common *managed.Common) (*kind, error)
}

// of hides a kind's type from the table.
func of[T api.Object](s kinds.Strategy[T]) strategy { return erased[T]{s} }

// builtinKinds is the table of what is always served: one line per kind, in
// the order of discovery.
func (r *Registry) builtinKinds() ([]*kind, error) {
	var all []*kind
	for _, s := range append([]strategy{
		of(kinds.Bindings(func(ctx context.Context, b api.Object) (api.Object, error) {
			return r.bind(ctx, api.Pods.KeyOf(b), b, api.CreateOptions{Subresource: "binding"})
		})),
		of(kinds.ComponentStatuses()),
		of(kinds.ConfigMaps()),
		of(kinds.Endpoints()),
		of(kinds.Events()),
		of(kinds.LimitRanges()),
		of(kinds.Namespaces()),
		of(kinds.Nodes()),
		of(kinds.PersistentVolumeClaims()),
		of(kinds.PersistentVolumes()),
		of(r.pods()),
		of(kinds.PodTemplates()),
		of(kinds.ReplicationControllers()),
		of(kinds.ResourceQuotas()),
		of(kinds.Secrets()),
		of(r.serviceAccounts()),
		of(r.services()),
		of(kinds.MutatingAdmissionPolicies()),
		of(kinds.MutatingAdmissionPolicyBindings()),
		of(kinds.MutatingWebhookConfigurations()),
		of(kinds.ValidatingAdmissionPolicies()),
		of(kinds.ValidatingAdmissionPolicyBindings()),
		of(kinds.ValidatingWebhookConfigurations()),
		of(custom.Definitions()),
		of(kinds.ControllerRevisions()),
		of(kinds.DaemonSets()),
		of(kinds.Deployments()),
		of(kinds.ReplicaSets()),
		of(kinds.StatefulSets()),
		of(kinds.HorizontalPodAutoscalers()),
		of(kinds.CronJobs()),
		of(kinds.Jobs()),
		of(kinds.Leases()),
		of(kinds.EndpointSlices()),
		of(kinds.FlowSchemas()),
		of(kinds.PriorityLevelConfigurations()),
		of(kinds.IngressClasses()),
		of(kinds.Ingresses()),
		of(kinds.IPAddresses()),
		of(kinds.NetworkPolicies()),
		of(kinds.ServiceCIDRs()),
		of(kinds.RuntimeClasses()),
		of(kinds.PodDisruptionBudgets()),
		of(kinds.DeviceClasses()),
		of(kinds.ResourceClaims()),
		of(kinds.ResourceClaimTemplates()),
		of(kinds.ResourceSlices()),
		of(kinds.DeviceTaintRules(r.stamp)),
		of(kinds.PriorityClasses()),
		of(kinds.CSIDrivers()),
		of(kinds.CSINodes()),
		of(kinds.CSIStorageCapacities()),
		of(kinds.StorageClasses()),
		of(kinds.VolumeAttachments()),
		of(kinds.VolumeAttributesClasses()),
	}, r.accessKinds()...) {
		k, err := s.kind(r.types, r.common)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// pods adds to the kind what needs the state of the cluster.
func (r *Registry) pods() kinds.Strategy[*corev1.Pod] {
	s := kinds.Pods()
	s.Subresources["binding"] = kinds.Subresource{Create: r.bind}
	s.Subresources["eviction"] = kinds.Subresource{Create: r.evict}
	return s
}

// services adds to the kind what needs the state of the cluster.
func (r *Registry) services() kinds.Strategy[*corev1.Service] {
	s := kinds.Services()
	s.Reserve, s.Release = r.reserveService, r.releaseService
	return s
}

// served is the set of kinds that are served now. Requests read it without a
// lock; it changes when custom resources come and go.
type served struct {
	mu       sync.Mutex // held by change
	newest   atomic.Pointer[kindSet]
	catalogs api.Catalogs
}

// kindSet is the set at one moment. It is immutable.
type kindSet struct {
	order []*kind
	byKey map[groupResource]*kind
}

// find returns the kind of a resource, nil when it is not served.
func (s *served) find(group, resource string) *kind {
	return s.newest.Load().byKey[groupResource{group, resource}]
}

// change replaces the set by what next makes of it. next gets a slice of its
// own. A request at work goes on with the kind that it began with.
func (s *served) change(next func(order []*kind) []*kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var before []*kind
	if set := s.newest.Load(); set != nil {
		before = slices.Clone(set.order)
	}
	set := &kindSet{order: next(before), byKey: map[groupResource]*kind{}}
	var resources []api.Resource
	for _, k := range set.order {
		set.byKey[groupResource{k.resource.Group, k.resource.Name}] = k
		if !k.hidden {
			resources = append(resources, k.resource)
		}
		for _, v := range k.versions {
			resources = append(resources, v.resource)
		}
	}
	s.newest.Store(set)
	s.catalogs.Set(api.NewCatalog(resources))
}

// Catalog implements api.Kinds: every version of every kind, the hub version
// first.
func (r *Registry) Catalog() *api.Catalog { return r.served.catalogs.Catalog() }

// Resources lists the kinds that are served now, each once, in the order of
// discovery.
func (r *Registry) Resources() []api.Resource {
	set := r.served.newest.Load()
	out := make([]api.Resource, 0, len(set.order))
	for _, k := range set.order {
		out = append(out, k.resource)
	}
	return out
}
