package api

import (
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kinds tells what is served. The set changes at run time, when custom
// resources come and go: whoever derives something from it keeps the Catalog
// that it was derived from and compares.
type Kinds interface {
	// Catalog returns what is served now.
	Catalog() *Catalog
}

// Catalog is the set of served resources at one moment, one entry for each
// version of a kind. It is immutable; its pointer is its identity.
type Catalog struct {
	resources  []Resource
	byGVR      map[schema.GroupVersionResource]*Resource
	superseded chan struct{}
}

// NewCatalog makes a catalog of resources, in the order of discovery. The
// slice is not copied and must not be changed afterwards.
func NewCatalog(resources []Resource) *Catalog {
	c := &Catalog{resources: resources, byGVR: make(map[schema.GroupVersionResource]*Resource, len(resources)),
		superseded: make(chan struct{})}
	for i := range resources {
		c.byGVR[resources[i].GVR()] = &resources[i]
	}
	return c
}

// With returns a catalog that has more resources, behind those of c. It is
// superseded together with c.
func (c *Catalog) With(more ...Resource) *Catalog {
	next := NewCatalog(append(c.resources[:len(c.resources):len(c.resources)], more...))
	next.superseded = c.superseded
	return next
}

// Catalog makes a fixed set of kinds a Kinds.
func (c *Catalog) Catalog() *Catalog { return c }

// Resources lists the catalog, in the order of discovery. The slice is shared
// and must not be changed.
func (c *Catalog) Resources() []Resource { return c.resources }

// Find returns the resource of a group, version and plural name, nil when it
// is not served.
func (c *Catalog) Find(gvr schema.GroupVersionResource) *Resource { return c.byGVR[gvr] }

// OfKind returns the resource of a kind; ok is false when it is not served.
func (c *Catalog) OfKind(gvk schema.GroupVersionKind) (r Resource, ok bool) {
	for i := range c.resources {
		if c.resources[i].GVK() == gvk {
			return c.resources[i], true
		}
	}
	return Resource{}, false
}

// Superseded returns a channel that is closed once there is a newer catalog.
func (c *Catalog) Superseded() <-chan struct{} { return c.superseded }

// Catalogs holds the newest Catalog of a set that changes. Set comes before
// everything else; then it is safe for concurrent use.
type Catalogs struct {
	mu     sync.Mutex // held by Set
	newest atomic.Pointer[Catalog]
}

// Catalog implements Kinds.
func (c *Catalogs) Catalog() *Catalog { return c.newest.Load() }

// Set puts a catalog in the place of the newest one and tells those who wait
// for that.
func (c *Catalogs) Set(next *Catalog) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.newest.Swap(next); old != nil {
		close(old.superseded)
	}
}
