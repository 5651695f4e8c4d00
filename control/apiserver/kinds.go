package apiserver

import (
	discoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// kinds is what the server derives from a catalog: routes and discovery. It is
// immutable; a request keeps the one that it began with.
type kinds struct {
	catalog *api.Catalog
	remote  []discoveryv2.APIGroupDiscovery
	groups  []group
	disco   *discovery
}

func newKinds(catalog *api.Catalog, remote []discoveryv2.APIGroupDiscovery, priority func(schema.GroupVersion) api.Priority) (*kinds, error) {
	groups := groupResources(catalog.Resources())
	disco, err := newDiscovery(groups, remote, priority)
	if err != nil {
		return nil, err
	}
	return &kinds{catalog: catalog, remote: remote, groups: groups, disco: disco}, nil
}

// find returns the resource of a group, version and plural name, nil when it
// is not served.
func (k *kinds) find(gv schema.GroupVersion, name string) *api.Resource {
	return k.catalog.Find(gv.WithResource(name))
}

// kinds returns what is derived from the newest catalog, and from what other
// servers serve. The first request
// after a change makes it; nothing has to run for that.
func (s *Server) kinds() (*kinds, error) {
	catalog, remote := s.cfg.Kinds.Catalog(), s.remoteGroups()
	if made := s.derived.Load(); made != nil && made.catalog == catalog && sameGroups(made.remote, remote) {
		return made, nil
	}
	made, err := newKinds(catalog, remote, s.priority)
	if err != nil {
		return nil, err
	}
	s.derived.Store(made)
	return made, nil
}
