package api

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The served kinds. Registry strategies, controllers and agents name them by
// these values.
var (
	Namespaces = Resource{Version: "v1", Name: "namespaces", Singular: "namespace", Kind: "Namespace",
		ShortNames: []string{"ns"}, Verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		Subresources: []Subresource{status, {Name: "finalize", Verbs: []string{"update"}}}}
	Nodes = Resource{Version: "v1", Name: "nodes", Singular: "node", Kind: "Node",
		ShortNames: []string{"no"}, Subresources: []Subresource{status, proxyTo("NodeProxyOptions")}}
	Pods = Resource{Version: "v1", Name: "pods", Singular: "pod", Kind: "Pod", Namespaced: true,
		ShortNames: []string{"po"}, Categories: []string{"all"},
		Subresources: []Subresource{status,
			{Name: "binding", Kind: schema.GroupVersionKind{Version: "v1", Kind: "Binding"}, Verbs: []string{"create"}},
			{Name: "ephemeralcontainers", Verbs: objectVerbs},
			{Name: "resize", Verbs: objectVerbs},
			{Name: "eviction", Kind: schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}, Verbs: []string{"create"}},
			{Name: "log", Verbs: []string{"get"}, Connect: true},
			{Name: "exec", Kind: core("PodExecOptions"), Verbs: []string{"create", "get"}, Connect: true},
			{Name: "attach", Kind: core("PodAttachOptions"), Verbs: []string{"create", "get"}, Connect: true},
			{Name: "portforward", Kind: core("PodPortForwardOptions"), Verbs: []string{"create", "get"}, Connect: true},
			proxyTo("PodProxyOptions")}}
	Services = Resource{Version: "v1", Name: "services", Singular: "service", Kind: "Service", Namespaced: true,
		ShortNames: []string{"svc"}, Categories: []string{"all"}, Subresources: []Subresource{status, proxyTo("ServiceProxyOptions")}}
	Endpoints = Resource{Version: "v1", Name: "endpoints", Singular: "endpoints", Kind: "Endpoints", Namespaced: true,
		Deprecation: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
		ShortNames:  []string{"ep"}}
	ConfigMaps = Resource{Version: "v1", Name: "configmaps", Singular: "configmap", Kind: "ConfigMap", Namespaced: true,
		ShortNames: []string{"cm"}}
	Secrets         = Resource{Version: "v1", Name: "secrets", Singular: "secret", Kind: "Secret", Namespaced: true}
	ServiceAccounts = Resource{Version: "v1", Name: "serviceaccounts", Singular: "serviceaccount", Kind: "ServiceAccount",
		Namespaced: true, ShortNames: []string{"sa"}, Subresources: []Subresource{tokenRequest}}
	Events = Resource{Version: "v1", Name: "events", Singular: "event", Kind: "Event", Namespaced: true,
		ShortNames: []string{"ev"}}
	EndpointSlices = Resource{Group: "discovery.k8s.io", Version: "v1", Name: "endpointslices", Singular: "endpointslice",
		Kind: "EndpointSlice", Namespaced: true}
	Leases = Resource{Group: "coordination.k8s.io", Version: "v1", Name: "leases", Singular: "lease", Kind: "Lease",
		Namespaced: true}
	Deployments = Resource{Group: "apps", Version: "v1", Name: "deployments", Singular: "deployment", Kind: "Deployment",
		Namespaced: true, ShortNames: []string{"deploy"}, Categories: []string{"all"},
		Subresources: []Subresource{status, scale}}
	ReplicaSets = Resource{Group: "apps", Version: "v1", Name: "replicasets", Singular: "replicaset", Kind: "ReplicaSet",
		Namespaced: true, ShortNames: []string{"rs"}, Categories: []string{"all"},
		Subresources: []Subresource{status, scale}}
)

// The subresources that kinds of all groups have in the same form.
var (
	StatusSubresource = status
	ScaleSubresource  = scale
)

var (
	objectVerbs = []string{"get", "patch", "update"}
	status      = Subresource{Name: "status", Verbs: objectVerbs}
	scale       = Subresource{Name: "scale", Verbs: objectVerbs,
		Kind: schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}}
)

func core(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: kind}
}

func proxyTo(options string) Subresource {
	return Subresource{Name: "proxy", Kind: core(options), Connect: true,
		Verbs: []string{"create", "delete", "get", "patch", "update"}}
}
