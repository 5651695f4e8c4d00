package apiserver

import (
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/auth"
)

// attributes are what the request is authorized by.
func (c *call) attributes() auth.Attributes {
	a := auth.Attributes{User: c.user, Verb: c.t.verb, Path: c.r.URL.Path}
	switch {
	case c.lost:
		return c.spoken(a)
	case c.t.res == nil:
		a.Verb = strings.ToLower(c.r.Method)
		return a
	}
	a.Group, a.Resource, a.Subresource = c.t.res.Group, c.t.res.Name, c.t.sub.Name
	a.Namespace, a.Name = c.t.namespace, c.t.name
	return c.selecting(a)
}

// selecting adds what a request for many objects selects them by.
func (c *call) selecting(a auth.Attributes) auth.Attributes {
	if a.Verb == "list" || a.Verb == "watch" || a.Verb == "deletecollection" {
		if sel, err := fields.ParseSelector(c.r.URL.Query().Get("fieldSelector")); err == nil {
			a.Fields = sel
			// A list of one object by name is a request for that name.
			name, one := sel.RequiresExactMatch("metadata.name")
			if one && a.Verb != "deletecollection" && len(path.IsValidPathSegmentName(name)) == 0 {
				a.Name = name
			}
		}
		if sel, err := labels.Parse(c.r.URL.Query().Get("labelSelector")); err == nil {
			a.Labels = sel
		}
	}
	return a
}

// spoken reads the attributes of a request from a path to a resource that is
// not there: who may not ask for it is told so in its words.
func (c *call) spoken(a auth.Attributes) auth.Attributes {
	a.Verb = strings.ToLower(c.r.Method)
	parts := strings.Split(strings.Trim(c.r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		a.Group, parts = parts[1], parts[3:]
	default:
		return a
	}
	a.Verb = map[string]string{http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create", http.MethodPut: "update",
		http.MethodPatch: "patch", http.MethodDelete: "delete"}[c.r.Method] // of others it is empty, in Kubernetes' texts too
	if parts[0] == "watch" && len(parts) > 1 {
		a.Verb, parts = "watch", parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		a.Namespace = parts[1]
		if len(parts) > 2 && !slices.Contains([]string{"status", "finalize"}, parts[2]) {
			parts = parts[2:]
		}
	}
	a.Resource = parts[0]
	if len(parts) > 1 {
		a.Name = parts[1]
	}
	if len(parts) > 2 {
		a.Subresource = parts[2]
	}
	switch {
	case a.Name != "":
	case a.Verb == "get" && isTrue(c.r.URL.Query(), "watch"):
		a.Verb = "watch"
	case a.Verb == "get":
		a.Verb = "list"
	case a.Verb == "delete":
		a.Verb = "deletecollection"
	}
	return c.selecting(a)
}
