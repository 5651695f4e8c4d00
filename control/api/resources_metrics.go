package api

// The kinds of metrics.k8s.io. They are read only and kept nowhere; package
// metrics answers for them.
var (
	NodeMetrics = Resource{Group: "metrics.k8s.io", Version: "v1beta1", Name: "nodes", Kind: "NodeMetrics", Verbs: readVerbs}
	PodMetrics  = Resource{Group: "metrics.k8s.io", Version: "v1beta1", Name: "pods", Kind: "PodMetrics", Namespaced: true, Verbs: readVerbs}

	readVerbs = []string{"get", "list"}
)
