package apiserver

import (
	"net/http"
	"net/url"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/proxy"

	"wherry.dev/wherry/control/api"
)

// Aggregated tells what is served by other servers.
type Aggregated interface {
	// Server tells where a group and version are served, and how to get there. ok
	// is false when that is here or nowhere; transport is nil while the server is
	// not available.
	Server(gv schema.GroupVersion) (host string, transport http.RoundTripper, ok bool)
	// Groups are what discovery says of them. The slice's identity stands for
	// what it says.
	Groups() []discoveryv2.APIGroupDiscovery
}

// routeAggregated reads a path below /apis/{group}/{version} that another
// server answers, as far as authorization has to know it.
func routeAggregated(r *http.Request, gv schema.GroupVersion, host string, transport http.RoundTripper, parts []string) target {
	t := target{streams: true, handler: func(c *call) { c.aggregated(host, transport) }}
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

// joined are the groups of /apis: those that are served here, with the
// versions that others serve of them, then the others'.
func joined(here, elsewhere []discoveryv2.APIGroupDiscovery) []discoveryv2.APIGroupDiscovery {
	out := here
	for _, g := range elsewhere {
		found := false
		for i := range here {
			if here[i].Name == g.Name {
				here[i].Versions, found = append(here[i].Versions, g.Versions...), true
			}
		}
		if !found {
			out = append(out, g)
		}
	}
	return out
}
