package api

import (
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is any Kubernetes API object that has metadata.
type Object interface {
	runtime.Object
	metav1.Object
}

// Key names one object or, with an empty Name, one collection: all objects of
// a resource in a namespace, or in all namespaces when Namespace is empty too.
// It is comparable and serves as map and queue key. Versions are not part of
// it: one object is one key, however it is asked for.
type Key struct {
	Group     string // "" is the core group
	Resource  string // plural, lower case: "pods"
	Namespace string // "" for cluster-scoped objects
	Name      string
}

// String renders the key for logs: resource.group/namespace/name.
func (k Key) String() string {
	var b strings.Builder
	b.WriteString(k.Resource)
	if k.Group != "" {
		b.WriteByte('.')
		b.WriteString(k.Group)
	}
	if k.Namespace != "" {
		b.WriteByte('/')
		b.WriteString(k.Namespace)
	}
	if k.Name != "" {
		b.WriteByte('/')
		b.WriteString(k.Name)
	}
	return b.String()
}

// GroupResource is the key's kind of thing, as StatusErrors name it.
func (k Key) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}
}

// Resource is the identity of one served kind in one version, as data: what
// discovery says of it and how its paths and keys are made. Values are never
// changed.
type Resource struct {
	Group   string // "" is the core group
	Version string // "v1"
	// Hub is the group and version of the resource as which objects are kept,
	// when this is another version (autoscaling/v1 of autoscaling/v2) or another
	// group (events.k8s.io of the core group) of them. Zero: this one.
	Hub        schema.GroupVersion
	Name       string // plural, as in paths: "pods"
	Singular   string // "pod"
	Kind       string // "Pod"
	Namespaced bool
	ShortNames []string // "po"
	Categories []string // "all"
	// Verbs are what may be done with the kind, in alphabetical order; nil:
	// everything.
	Verbs []string
	// Subresources that the kind serves beside itself.
	Subresources []Subresource
	// Deprecation is a warning that comes with the answer of each request;
	// "": none.
	Deprecation string
}

// Subresource is one entry below a resource: pods/status, deployments/scale.
type Subresource struct {
	Name    string                  // "status"
	Kind    schema.GroupVersionKind // what it speaks; zero means the resource's own kind
	Verbs   []string                // as discovery lists them: "get", "patch", "update"
	Connect bool                    // a stream to a node (log, exec), not an object in the store
}

// allVerbs is what may be done with most kinds.
var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// AllVerbs returns what may be done with the kind, as discovery lists it.
func (r Resource) AllVerbs() []string {
	if r.Verbs != nil {
		return r.Verbs
	}
	return allVerbs
}

// Can tells whether the kind has all of these verbs.
func (r Resource) Can(verbs ...string) bool {
	for _, verb := range verbs {
		if !slices.Contains(r.AllVerbs(), verb) {
			return false
		}
	}
	return true
}

// Key returns the key of one object of the resource, or of a collection when
// name is empty.
func (r Resource) Key(namespace, name string) Key {
	if !r.Namespaced {
		namespace = ""
	}
	return Key{Group: r.HubVersion().Group, Resource: r.Name, Namespace: namespace, Name: name}
}

// HubVersion returns the group and version as which objects are kept.
func (r Resource) HubVersion() schema.GroupVersion {
	if r.Hub.Empty() {
		return schema.GroupVersion{Group: r.Group, Version: r.Version}
	}
	return r.Hub
}

// KeyOf returns the key under which obj is stored.
func (r Resource) KeyOf(obj metav1.Object) Key { return r.Key(obj.GetNamespace(), obj.GetName()) }

// GVK returns the resource's group, version and kind.
func (r Resource) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// GVR returns the resource's group, version and plural name.
func (r Resource) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Name}
}

// GroupResource returns the resource without its version.
func (r Resource) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.Group, Resource: r.Name}
}

// GroupVersion returns "v1" or "apps/v1", as in apiVersion.
func (r Resource) GroupVersion() string {
	return schema.GroupVersion{Group: r.Group, Version: r.Version}.String()
}

// Subresource finds a subresource by name.
func (r Resource) Subresource(name string) (Subresource, bool) {
	for _, s := range r.Subresources {
		if s.Name == name {
			return s, true
		}
	}
	return Subresource{}, false
}

// FormatRevision renders a store revision as a resourceVersion.
func FormatRevision(rev uint64) string { return strconv.FormatUint(rev, 10) }

// ParseRevision reads a resourceVersion that came from FormatRevision. The
// empty string and "0" give 0.
func ParseRevision(rv string) (uint64, error) {
	if rv == "" {
		return 0, nil
	}
	return strconv.ParseUint(rv, 10, 64)
}
