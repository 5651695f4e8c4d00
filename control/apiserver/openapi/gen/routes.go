package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/common"

	"wherry.dev/wherry/control/api"
)

// route is one operation as kube-openapi's builders want it.
type route struct {
	method, path, id, text string
	params                 []common.Parameter
	consumes, produces     []string
	action                 string
	kind                   map[string]any // x-kubernetes-group-version-kind
	request                any
	responses              []common.StatusCodeResponse
}

func (r route) Method() string                                   { return r.method }
func (r route) Path() string                                     { return r.path }
func (r route) OperationName() string                            { return r.id }
func (r route) Parameters() []common.Parameter                   { return r.params }
func (r route) Description() string                              { return r.text }
func (r route) Consumes() []string                               { return r.consumes }
func (r route) Produces() []string                               { return r.produces }
func (r route) RequestPayloadSample() any                        { return r.request }
func (r route) ResponsePayloadSample() any                       { return nil }
func (r route) StatusCodeResponses() []common.StatusCodeResponse { return r.responses }

func (r route) Metadata() map[string]any {
	if r.action == "" {
		return nil
	}
	return map[string]any{"x-kubernetes-action": r.action, "x-kubernetes-group-version-kind": r.kind}
}

type response struct {
	code  int
	text  string
	model any
}

func (r response) Code() int       { return r.code }
func (r response) Message() string { return r.text }
func (r response) Model() any      { return r.model }

type param struct {
	name, text, dataType string
	kind                 common.ParameterKind
	required             bool
}

func (p param) Name() string               { return p.name }
func (p param) Description() string        { return p.text }
func (p param) Required() bool             { return p.required }
func (p param) Kind() common.ParameterKind { return p.kind }
func (p param) DataType() string           { return p.dataType }
func (p param) AllowMultiple() bool        { return false }

// container holds the routes of one group and version.
type container struct {
	root   string
	routes []common.Route
}

func (c container) RootPath() string                   { return c.root }
func (c container) PathParameters() []common.Parameter { return nil }
func (c container) Routes() []common.Route             { return c.routes }

func query(name, dataType, text string) param {
	return param{name: name, text: text, dataType: dataType, kind: common.QueryParameterKind}
}

func listParams() []common.Parameter {
	return []common.Parameter{
		query("allowWatchBookmarks", "boolean", "Send events of type BOOKMARK from time to time, which carry a resourceVersion only."),
		query("continue", "string", "The token of the previous page, as it was returned with it."),
		query("fieldSelector", "string", "Restricts the objects by their fields. Defaults to everything."),
		query("labelSelector", "string", "Restricts the objects by their labels. Defaults to everything."),
		query("limit", "integer", "The most objects to return; when there are more, the list's continue is set."),
		query("resourceVersion", "string", "Constrains the revision from which the request is served."),
		query("resourceVersionMatch", "string", "How resourceVersion is applied to a list: Exact or NotOlderThan."),
		query("sendInitialEvents", "boolean", "Begin a watch with the existing objects, closed by a bookmark."),
		query("timeoutSeconds", "integer", "Ends a list or watch after this time, however much is going on."),
		query("watch", "boolean", "Follow the changes instead of listing."),
	}
}

func writeParams() []common.Parameter {
	return []common.Parameter{
		query("dryRun", "string", "When All, everything is done but the change is not kept."),
		query("fieldManager", "string", "The name of who makes the change."),
		query("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
	}
}

func deleteParams() []common.Parameter {
	return []common.Parameter{
		query("dryRun", "string", "When All, everything is done but the change is not kept."),
		query("gracePeriodSeconds", "integer", "Seconds before the object is deleted; zero is at once."),
		query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
		query("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
	}
}

func logParams() []common.Parameter {
	return []common.Parameter{
		query("container", "string", "The container; defaults to the only one in the pod."),
		query("follow", "boolean", "Keep the stream open and send what is logged from now on."),
		query("limitBytes", "integer", "The most bytes to return."),
		query("previous", "boolean", "The log of the terminated predecessor of the container."),
		query("sinceSeconds", "integer", "Only what is younger than this."),
		query("sinceTime", "string", "Only what is younger than this RFC 3339 time."),
		query("stream", "string", "All, Stdout or Stderr."),
		query("tailLines", "integer", "Only so many lines from the end."),
		query("timestamps", "boolean", "Put an RFC 3339 timestamp before each line."),
	}
}

func pretty() common.Parameter {
	return query("pretty", "string", "If true, the output is indented.")
}

func pathParam(name, text string) common.Parameter {
	return param{name: name, text: text, dataType: "string", kind: common.PathParameterKind, required: true}
}

func bodyParam(required bool) common.Parameter {
	return param{name: "body", dataType: "string", kind: common.BodyParameterKind, required: required}
}

// groupTitle is a group in operation names: "Core", "Apps", "Discovery",
// "RbacAuthorization".
func groupTitle(group string) string {
	if group == "" {
		return "Core"
	}
	var out strings.Builder
	for word := range strings.SplitSeq(strings.TrimSuffix(group, ".k8s.io"), ".") {
		out.WriteString(title(word))
	}
	return out.String()
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func contentTypes() []string {
	return []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"}
}

func streamTypes() []string {
	return append(contentTypes(), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch", "application/cbor-seq")
}

func patchTypes() []string {
	return []string{"application/json-patch+json", "application/merge-patch+json",
		"application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/apply-patch+cbor"}
}

// resourceRoutes are all operations of one resource.
func (b *builder) resourceRoutes(res api.Resource) ([]common.Route, error) {
	root := "/apis/" + res.GroupVersion()
	if res.Group == "" {
		root = "/api/" + res.Version
	}
	namespaced := ""
	var place []common.Parameter
	all := root + "/" + res.Name
	if res.Namespaced {
		namespaced = "Namespaced"
		place = append(place, pathParam("namespace", "The namespace of the object."))
		root += "/namespaces/{namespace}"
	}
	collection := root + "/" + res.Name
	object := collection + "/{name}"
	named := append(slices.Clone(place), pathParam("name", "The name of the "+res.Kind+"."))
	suffix := groupTitle(res.Group) + title(res.Version) + namespaced + res.Kind
	model, list, err := b.models(res)
	if err != nil {
		return nil, err
	}
	make := func(method, path, id, action, text string, base []common.Parameter, extra ...common.Parameter) route {
		return route{
			method: method, path: path, id: id, action: action, text: text, kind: gvkOf(res.GVK()),
			params:   slices.Concat(base, []common.Parameter{pretty()}, extra),
			consumes: []string{"*/*"}, produces: contentTypes(),
		}
	}
	var routes []common.Route
	add := func(r route, request any, answers ...common.StatusCodeResponse) {
		if !res.Can(verbOf[r.action]) {
			return
		}
		r.request, r.responses = request, answers
		if r.action == "list" {
			r.produces = streamTypes()
		}
		if r.method == http.MethodPatch {
			r.consumes = patchTypes()
		}
		routes = append(routes, r)
	}
	if res.Namespaced {
		id := "list" + groupTitle(res.Group) + title(res.Version) + res.Kind + "ForAllNamespaces"
		add(make("GET", all, id, "list", "list or watch objects of kind "+res.Kind, nil, listParams()...), nil, ok(list))
	}
	add(make("GET", collection, "list"+suffix, "list", "list or watch objects of kind "+res.Kind, place, listParams()...), nil, ok(list))
	add(make("POST", collection, "create"+suffix, "post", "create a "+res.Kind, place, append(writeParams(), bodyParam(true))...),
		model, ok(model), response{201, "Created", model}, response{202, "Accepted", model})
	collectionID := "delete" + groupTitle(res.Group) + title(res.Version) + "Collection" + namespaced + res.Kind
	add(make("DELETE", collection, collectionID, "deletecollection", "delete collection of "+res.Kind, place,
		append(withoutDuplicates(listParams(), deleteParams()), bodyParam(false))...), b.deleteOptions, ok(b.status))
	add(make("GET", object, "read"+suffix, "get", "read the specified "+res.Kind, named), nil, ok(model))
	add(make("PUT", object, "replace"+suffix, "put", "replace the specified "+res.Kind, named, append(writeParams(), bodyParam(true))...),
		model, ok(model), response{201, "Created", model})
	add(make("PATCH", object, "patch"+suffix, "patch", "partially update the specified "+res.Kind, named,
		append(writeParams(), query("force", "boolean", "Take over fields of other managers, for apply only."), bodyParam(true))...),
		b.patch, ok(model), response{201, "Created", model})
	add(make("DELETE", object, "delete"+suffix, "delete", "delete a "+res.Kind, named, append(deleteParams(), bodyParam(false))...),
		b.deleteOptions, ok(b.status), response{202, "Accepted", b.status})
	for _, sub := range res.Subresources {
		subRoutes, err := b.subRoutes(res, sub, object+"/"+sub.Name, suffix+title(sub.Name), named)
		if err != nil {
			return nil, err
		}
		routes = append(routes, subRoutes...)
	}
	return routes, nil
}

// verbOf names the verb of an action in OpenAPI's words.
var verbOf = map[string]string{"list": "list", "get": "get", "post": "create", "put": "update", "patch": "patch", "delete": "delete",
	"deletecollection": "deletecollection"}

// methodOf is the HTTP method of a verb of streams to a node.
var methodOf = map[string]string{"get": http.MethodGet, "create": http.MethodPost, "update": http.MethodPut, "patch": http.MethodPatch,
	"delete": http.MethodDelete}

func (b *builder) subRoutes(res api.Resource, sub api.Subresource, path, suffix string, named []common.Parameter) ([]common.Route, error) {
	kind := sub.Kind
	if kind.Empty() {
		kind = res.GVK()
	}
	var model any = ""
	if !sub.Connect {
		made, err := b.types.Scheme.New(kind)
		if err != nil {
			return nil, err
		}
		model = b.sample(made)
	}
	var routes []common.Route
	for _, verb := range sub.Verbs {
		r := route{path: path, text: verb + " " + sub.Name + " of the specified " + res.Kind, kind: gvkOf(kind),
			params: append(slices.Clone(named), pretty()), consumes: []string{"*/*"}, produces: contentTypes(),
			responses: []common.StatusCodeResponse{ok(model)}}
		if sub.Connect && sub.Name != "log" {
			r.method, r.id, r.action, r.produces = methodOf[verb], "connect"+title(verb)+suffix, "connect", []string{"*/*"}
			routes = append(routes, r)
			continue
		}
		switch verb {
		case "get":
			r.method, r.id, r.action = "GET", "read"+suffix, "get"
			if sub.Connect {
				r.params, r.produces = append(r.params, logParams()...), []string{"text/plain"}
			}
		case "update":
			r.method, r.id, r.action, r.request = "PUT", "replace"+suffix, "put", model
			r.params = append(append(r.params, writeParams()...), bodyParam(true))
		case "patch":
			r.method, r.id, r.action, r.request, r.consumes = "PATCH", "patch"+suffix, "patch", b.patch, patchTypes()
			r.params = append(append(r.params, writeParams()...), bodyParam(true))
		case "create":
			r.method, r.id, r.action, r.request = "POST", "create"+suffix, "post", model
			r.params = append(append(r.params, writeParams()...), bodyParam(true))
			r.responses = append(r.responses, response{201, "Created", model})
		default:
			return nil, fmt.Errorf("%s/%s: verb %s has no operation", res.Name, sub.Name, verb)
		}
		routes = append(routes, r)
	}
	return routes, nil
}

func ok(model any) response { return response{http.StatusOK, "OK", model} }

func withoutDuplicates(a, b []common.Parameter) []common.Parameter {
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.ContainsFunc(a, func(q common.Parameter) bool { return q.Name() == p.Name() }) {
			out = append(out, p)
		}
	}
	return slices.DeleteFunc(out, func(p common.Parameter) bool { return p.Name() == "watch" || p.Name() == "allowWatchBookmarks" })
}
