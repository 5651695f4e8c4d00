package apiserver

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// target is what a request's method and path mean.
type target struct {
	verb      string        // Kubernetes' verb: get, list, watch, ...
	res       *api.Resource // nil for paths that are no resource
	sub       api.Subresource
	namespace string
	name      string
	rest      string // of the path, after a proxy: "/" and what follows
	streams   bool   // lasts as long as the client likes
	handler   func(*call)
}

// as is the version that the client speaks, zero for the one in which objects
// are kept.
func (t target) as() schema.GroupVersion {
	if t.res.Hub.Empty() {
		return schema.GroupVersion{}
	}
	return schema.GroupVersion{Group: t.res.Group, Version: t.res.Version}
}

// key returns the store key the target names.
func (t target) key() api.Key { return t.res.Key(t.namespace, t.name) }

// errNoPath says that there is nothing at a path, where no API is. It is
// answered as text, as by Kubernetes.
var errNoPath = errors.New("404 page not found")

// errNoResource says that a group has nothing of that name or version.
func errNoResource() error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false)
}

// nowhere is the error of a path below a group that leads nowhere. A group of
// custom resources is not known as such to Kubernetes' server.
func (s *Server) nowhere(served *kinds, group string) error {
	if _, ok := served.disco.group(group); ok && s.codecs.scheme.IsGroupRegistered(group) {
		return errNoResource()
	}
	return errNoPath
}

// route finds the handler of a request. An error is a 404 or a 405.
func (s *Server) route(r *http.Request, served *kinds) (target, error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch parts[0] {
	case "api":
		if len(parts) > 2 {
			return s.routeResource(r, served, schema.GroupVersion{Version: parts[1]}, parts[2:])
		}
	case "apis":
		if listsExtensions(r) && served.catalog.Find(extensions.GVR()) == nil {
			return target{verb: "list", res: &extensions, handler: (*call).noExtensions}, nil
		}
		if s.cfg.Aggregated != nil && len(parts) > 2 {
			gv := schema.GroupVersion{Group: parts[1], Version: parts[2]}
			if host, transport, ok := s.cfg.Aggregated.Server(gv); ok {
				return routeAggregated(r, gv, host, transport, parts[3:]), nil
			}
		}
		if len(parts) > 3 {
			return s.routeResource(r, served, schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:])
		}
	}
	return s.routePath(r, parts)
}

// routeResource reads what follows the group and version in a path:
// [watch/][namespaces/{namespace}/]{resource}[/{name}[/{subresource}]]
func (s *Server) routeResource(r *http.Request, served *kinds, gv schema.GroupVersion, parts []string) (target, error) {
	t := target{}
	// The old form of a watch; clients use ?watch=true.
	oldWatch := parts[0] == "watch" && len(parts) > 1
	if oldWatch {
		parts = parts[1:]
	}
	scoped := false
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		t.namespace, parts, scoped = parts[1], parts[2:], true
	}
	res := served.find(gv, parts[0])
	if len(parts) > 2 && parts[2] == "proxy" {
		t.rest, parts = afterProxy(r.URL.Path, parts), parts[:3]
	}
	if res == nil || len(parts) > 3 || slices.Contains(parts[1:], "") {
		return t, s.nowhere(served, gv.Group)
	}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		sub, ok := res.Subresource(parts[2])
		if !ok {
			return t, s.about(res, t.name, errNoResource())
		}
		t.sub = sub
	}
	// Objects of namespaces are reached through their namespace; only
	// collections span all of them.
	if scoped != res.Namespaced && (scoped || t.name != "") || scoped && t.namespace == "" {
		return t, errNoResource()
	}
	if !reaches(res, t) {
		return t, errNoResource()
	}
	t.res = res
	if res.Name == "namespaces" && res.Group == "" {
		// Kubernetes authorizes requests for a namespace inside of it.
		t.namespace = t.name
	}
	return t, s.about(res, "", s.chooseVerb(r, &t, oldWatch))
}

// about adds to an error of a path which custom resource it is about, as
// Kubernetes' server of those does.
func (s *Server) about(res *api.Resource, name string, err error) error {
	var refused *apierrors.StatusError
	if errors.As(err, &refused) && !s.codecs.typed(res.GVK()) {
		refused.ErrStatus.Details = &metav1.StatusDetails{Group: res.Group, Kind: res.Name, Name: name}
	}
	return err
}

// reaches tells whether anything can be done where a path leads: what is only
// created has no paths of objects, nor one that spans all namespaces.
func reaches(res *api.Resource, t target) bool {
	if t.sub.Name != "" || res.Can("get") || res.Can("list") {
		return true
	}
	return t.name == "" && (t.namespace != "" || !res.Namespaced)
}

// afterProxy is what a proxy's target is asked for: the path after its third
// part. The parts themselves have lost a slash at the end.
func afterProxy(path string, parts []string) string {
	_, rest, _ := strings.Cut(path, "/"+strings.Join(parts[:3], "/"))
	return rest
}

// chooseVerb sets verb and handler from the method.
func (s *Server) chooseVerb(r *http.Request, t *target, oldWatch bool) error {
	all := t.name == "" // a collection
	watch := oldWatch || all && isTrue(r.URL.Query(), "watch")
	switch {
	case oldWatch && r.Method != http.MethodGet:
		return errNotAllowed()
	case t.sub.Connect:
		return routeConnect(r, t)
	case r.Method == http.MethodGet && watch:
		t.verb, t.handler, t.streams = "watch", (*call).watch, true
	case r.Method == http.MethodGet && all:
		t.verb, t.handler = "list", (*call).list
	case r.Method == http.MethodGet:
		t.verb, t.handler = "get", (*call).get
	case r.Method == http.MethodPost && (all || t.sub.Name != ""):
		t.verb, t.handler = "create", (*call).create
	case r.Method == http.MethodPut && !all:
		t.verb, t.handler = "update", (*call).update
	case r.Method == http.MethodPatch && !all:
		t.verb, t.handler = "patch", (*call).patch
	case r.Method == http.MethodDelete && all:
		t.verb, t.handler = "deletecollection", (*call).deleteCollection
	case r.Method == http.MethodDelete:
		t.verb, t.handler = "delete", (*call).delete
	default:
		return errNotAllowed()
	}
	if t.sub.Name == "" && !t.res.Can(t.verb) || t.sub.Name != "" && !slices.Contains(t.sub.Verbs, t.verb) {
		return errNotAllowed()
	}
	// A namespaced object is created in a namespace.
	if t.verb == "create" && t.res.Namespaced && t.namespace == "" {
		return errNotAllowed()
	}
	return nil
}

func errNotAllowed() error {
	return apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "", 0, false)
}

// routePath finds the handlers of paths that are no resources.
func (s *Server) routePath(r *http.Request, parts []string) (target, error) {
	t := target{}
	switch parts[0] {
	case "":
		t.handler = (*call).paths
	case "api", "apis":
		t.handler = (*call).discover
	case "version":
		if len(parts) == 1 {
			t.handler = (*call).version
		}
	case "healthz", "livez", "readyz":
		t.handler = (*call).health
	case "metrics":
		if r.URL.Path == "/metrics" {
			t.handler = (*call).metricsPage
		}
	case "openapi":
		if r.URL.Path == "/openapi/v2" || len(parts) > 1 && parts[1] == "v3" {
			t.handler = (*call).openAPI
		}
	}
	if t.handler != nil {
		// Some paths take any method in Kubernetes; those of a version only one.
		versioned := parts[0] == "version" || parts[0] == "api" || parts[0] == "apis" && len(parts) > 2
		if versioned && r.Method != http.MethodGet {
			return t, errNotAllowed()
		}
		return t, nil
	}
	for _, prefix := range s.extra {
		if strings.HasPrefix(r.URL.Path, prefix) || r.URL.Path+"/" == prefix {
			h := s.cfg.Extra[prefix]
			// It bounds itself: uploads of images take what they take.
			t.streams, t.handler = true, func(c *call) { h.ServeHTTP(c.w, c.r) }
			return t, nil
		}
	}
	return t, errNoPath
}
