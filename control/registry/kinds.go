package registry

import (
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// strategy is a Strategy of any kind.
type strategy interface {
	kind(types *api.Types) (*kind, error)
}

// of hides a kind's type from the table.
func of[T api.Object](s kinds.Strategy[T]) strategy { return erased[T]{s} }

// allKinds is the table of what is served: one line per kind, in the order of
// discovery.
func (r *Registry) allKinds() ([]*kind, error) {
	var all []*kind
	for _, s := range []strategy{
		of(kinds.ConfigMaps()),
		of(kinds.Endpoints()),
		of(kinds.Events()),
		of(kinds.Namespaces()),
		of(kinds.Nodes()),
		of(r.pods()),
		of(kinds.Secrets()),
		of(kinds.ServiceAccounts()),
		of(r.services()),
		of(kinds.Deployments()),
		of(kinds.ReplicaSets()),
		of(kinds.Leases()),
		of(kinds.EndpointSlices()),
	} {
		k, err := s.kind(r.types)
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
	s.Admit = r.admitPod
	s.Subresources = map[string]kinds.Subresource{"binding": {Create: r.bind}}
	return s
}

// services adds to the kind what needs the state of the cluster.
func (r *Registry) services() kinds.Strategy[*corev1.Service] {
	s := kinds.Services()
	s.Reserve, s.Release = r.reserveService, r.releaseService
	return s
}
