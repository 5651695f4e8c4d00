package apiserver

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/proxy"
	kubeversion "k8s.io/apimachinery/pkg/version"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver/openapi"
)

// Aggregated tells what is served by other servers.
type Aggregated interface {
	// Server tells where a group and version are served, and how to get there. ok
	// is false when that is here or nowhere; transport is nil while the server is
	// not available.
	Server(gv schema.GroupVersion) (host string, transport http.RoundTripper, ok bool)
	// Groups are what discovery says of them. The slice's identity stands for
	// what it says, and for the priorities.
	Groups() []discoveryv2.APIGroupDiscovery
	// Priority is that of a group and version, wherever it is served.
	Priority(gv schema.GroupVersion) api.Priority
	openapi.Documents
}

// routeAggregated reads a path below /apis/{group}/{version} that another
// server answers, as far as authorization has to know it.
func routeAggregated(r *http.Request, gv schema.GroupVersion, host string, transport http.RoundTripper, parts []string) target {
	t := target{handler: func(c *call) { c.aggregated(host, transport) }}
	if len(parts) == 0 {
		return t // discovery
	}
	watch := isTrue(r.URL.Query(), "watch")
	if parts[0] == "watch" && len(parts) > 1 {
		watch, parts = true, parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.res = &api.Resource{Group: gv.Group, Version: gv.Version, Name: parts[0], Namespaced: t.namespace != ""}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.sub = api.Subresource{Name: parts[2]}
	}
	// What lasts as long as the client likes; all else has a bound, and a place
	// among the requests at work, as here.
	t.streams = watch || r.Header.Get("Upgrade") != "" || slices.Contains([]string{"attach", "exec", "log", "portforward", "proxy"}, t.sub.Name)
	t.verb = map[string]string{http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	switch {
	case t.verb == "" && t.name != "":
		t.verb = "get"
	case t.verb == "" && watch:
		t.verb = "watch"
	case t.verb == "":
		t.verb = "list"
	case t.verb == "delete" && t.name == "":
		t.verb = "deletecollection"
	}
	return t
}

// aggregated hands the request over to the server that answers it, with the
// user's name: that server believes it from whoever has our certificate
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy).
func (c *call) aggregated(host string, transport http.RoundTripper) {
	if transport == nil {
		http.Error(c.w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	r := c.r.Clone(c.r.Context())
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Remote-") {
			r.Header.Del(name)
		}
	}
	r.Header.Set("X-Remote-User", c.user.Name)
	if c.user.UID != "" {
		r.Header.Set("X-Remote-Uid", c.user.UID)
	}
	for _, group := range c.user.Groups {
		r.Header.Add("X-Remote-Group", group)
	}
	for key, values := range c.user.Extra {
		for _, value := range values {
			r.Header.Add("X-Remote-Extra-"+url.PathEscape(key), value)
		}
	}
	c.r = r
	location := &url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	handler := proxy.NewUpgradeAwareHandler(location, transport, false, false, c)
	handler.UseLocationHost = true
	c.forward(handler)
}

// priority is that of a group and version, wherever it is served.
func (s *Server) priority(gv schema.GroupVersion) api.Priority {
	if s.cfg.Aggregated == nil {
		return api.PriorityOf(gv)
	}
	return s.cfg.Aggregated.Priority(gv)
}

// remoteGroups are the groups that other servers serve.
func (s *Server) remoteGroups() []discoveryv2.APIGroupDiscovery {
	if s.cfg.Aggregated == nil {
		return nil
	}
	return s.cfg.Aggregated.Groups()
}

// sameGroups compares identities.
func sameGroups(a, b []discoveryv2.APIGroupDiscovery) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// legacyOf is a group of aggregated discovery in the form of the lists.
func legacyOf(g discoveryv2.APIGroupDiscovery) metav1.APIGroup {
	out := metav1.APIGroup{Name: g.Name}
	for _, v := range g.Versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: g.Name + "/" + v.Version, Version: v.Version})
	}
	if len(out.Versions) > 0 {
		out.PreferredVersion = out.Versions[0]
	}
	return out
}

// ranked are the groups of /apis: those that are served here and those that
// others serve, of which each may have versions of the other's. Groups and
// versions of higher priority come first; what is equal stays as it is.
func ranked(here, elsewhere []discoveryv2.APIGroupDiscovery, priority func(schema.GroupVersion) api.Priority) []discoveryv2.APIGroupDiscovery {
	out := here
	for _, g := range elsewhere {
		i := slices.IndexFunc(out, func(o discoveryv2.APIGroupDiscovery) bool { return o.Name == g.Name })
		if i < 0 {
			g.Versions = slices.Clone(g.Versions)
			out = append(out, g)
		} else {
			out[i].Versions = append(out[i].Versions, g.Versions...)
		}
	}
	highest := map[string]int32{}
	for _, g := range out {
		of := func(v discoveryv2.APIVersionDiscovery) api.Priority {
			return priority(schema.GroupVersion{Group: g.Name, Version: v.Version})
		}
		slices.SortStableFunc(g.Versions, func(a, b discoveryv2.APIVersionDiscovery) int {
			return cmp.Or(cmp.Compare(of(b).Version, of(a).Version), kubeversion.CompareKubeAwareVersionStrings(b.Version, a.Version))
		})
		for _, v := range g.Versions {
			highest[g.Name] = max(highest[g.Name], of(v).Group)
		}
	}
	slices.SortStableFunc(out, func(a, b discoveryv2.APIGroupDiscovery) int {
		return cmp.Or(cmp.Compare(highest[b.Name], highest[a.Name]), strings.Compare(a.Name, b.Name))
	})
	return out
}
