package api

// The kinds that run pods, scale them and say which are more important.
var (
	ReplicationControllers = Resource{Version: "v1", Name: "replicationcontrollers", Singular: "replicationcontroller",
		Kind: "ReplicationController", Namespaced: true, ShortNames: []string{"rc"}, Categories: []string{"all"},
		Subresources: []Subresource{status, scale}}
	PodTemplates = Resource{Version: "v1", Name: "podtemplates", Singular: "podtemplate", Kind: "PodTemplate", Namespaced: true}
	StatefulSets = Resource{Group: "apps", Version: "v1", Name: "statefulsets", Singular: "statefulset", Kind: "StatefulSet",
		Namespaced: true, ShortNames: []string{"sts"}, Categories: []string{"all"}, Subresources: []Subresource{status, scale}}
	DaemonSets = Resource{Group: "apps", Version: "v1", Name: "daemonsets", Singular: "daemonset", Kind: "DaemonSet",
		Namespaced: true, ShortNames: []string{"ds"}, Categories: []string{"all"}, Subresources: []Subresource{status}}
	ControllerRevisions = Resource{Group: "apps", Version: "v1", Name: "controllerrevisions", Singular: "controllerrevision",
		Kind: "ControllerRevision", Namespaced: true}
	Jobs = Resource{Group: "batch", Version: "v1", Name: "jobs", Singular: "job", Kind: "Job",
		Namespaced: true, Categories: []string{"all"}, Subresources: []Subresource{status}}
	CronJobs = Resource{Group: "batch", Version: "v1", Name: "cronjobs", Singular: "cronjob", Kind: "CronJob",
		Namespaced: true, ShortNames: []string{"cj"}, Categories: []string{"all"}, Subresources: []Subresource{status}}
	PodDisruptionBudgets = Resource{Group: "policy", Version: "v1", Name: "poddisruptionbudgets", Singular: "poddisruptionbudget",
		Kind: "PodDisruptionBudget", Namespaced: true, ShortNames: []string{"pdb"}, Subresources: []Subresource{status}}
	PriorityClasses = Resource{Group: "scheduling.k8s.io", Version: "v1", Name: "priorityclasses", Singular: "priorityclass",
		Kind: "PriorityClass", ShortNames: []string{"pc"}}
	HorizontalPodAutoscalers = Resource{Group: "autoscaling", Version: "v2", Name: "horizontalpodautoscalers",
		Singular: "horizontalpodautoscaler", Kind: "HorizontalPodAutoscaler", Namespaced: true, ShortNames: []string{"hpa"},
		Categories: []string{"all"}, Subresources: []Subresource{status}}
	// HorizontalPodAutoscalersV1 are the same objects in their first version.
	HorizontalPodAutoscalersV1 = asVersion(HorizontalPodAutoscalers, "autoscaling", "v1")
)

// asVersion is a resource as another group and version of the same objects.
func asVersion(hub Resource, group, version string) Resource {
	out := hub
	out.Hub = hub.HubVersion()
	out.Group, out.Version = group, version
	return out
}
