package registry

import "wherry.dev/wherry/control/api"

// strategy is a Strategy of any kind.
type strategy interface {
	kind(types *api.Types) (*kind, error)
}

// allKinds is the table of what is served: one line per kind, in the order of
// discovery.
func (r *Registry) allKinds() ([]*kind, error) {
	var kinds []*kind
	for _, s := range []strategy{
		configMaps(),
		endpoints(),
		events(),
		namespaces(),
		nodes(),
		r.pods(),
		secrets(),
		serviceAccounts(),
		r.services(),
		deployments(),
		replicaSets(),
		leases(),
		endpointSlices(),
	} {
		k, err := s.kind(r.types)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}
