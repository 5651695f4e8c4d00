package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// kinds is what the server derives from a catalog: routes and discovery. It is
// immutable; a request keeps the one that it began with.
type kinds struct {
	catalog *api.Catalog
	groups  []group
	disco   *discovery
}

func newKinds(catalog *api.Catalog) (*kinds, error) {
	groups := groupResources(catalog.Resources())
	disco, err := newDiscovery(groups)
	if err != nil {
		return nil, err
	}
	return &kinds{catalog: catalog, groups: groups, disco: disco}, nil
}

// find returns the resource of a group, version and plural name, nil when it
// is not served.
func (k *kinds) find(gv schema.GroupVersion, name string) *api.Resource {
	return k.catalog.Find(gv.WithResource(name))
}

// kinds returns what is derived from the newest catalog. The first request
// after a change makes it; nothing has to run for that.
func (s *Server) kinds() (*kinds, error) {
	catalog := s.cfg.Kinds.Catalog()
	if made := s.derived.Load(); made != nil && made.catalog == catalog {
		return made, nil
	}
	made, err := newKinds(catalog)
	if err != nil {
		return nil, err
	}
	s.derived.Store(made)
	return made, nil
}
