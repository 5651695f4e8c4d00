package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"

	"wherry.dev/wherry/control/api"
)

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

func number(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.DecimalSI) }

// computed are the resources that each container must have something to say
// about where a quota bounds them.
var computed = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU,
	corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory}

func podMeter() Meter {
	m := counter(api.Pods.GroupResource())
	m.updates = []string{"resize"}
	m.covers = func(name corev1.ResourceName) bool {
		switch name {
		case corev1.ResourcePods, corev1.ResourceEphemeralStorage, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsEphemeralStorage:
			return true
		}
		request, isRequest := strings.CutPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
		return slices.Contains(computed, name) || strings.HasPrefix(request, corev1.ResourceHugePagesPrefix) || isRequest && extended(request)
	}
	m.usage = func(obj api.Object, now time.Time) corev1.ResourceList {
		out := corev1.ResourceList{m.name: one()}
		if pod := obj.(*corev1.Pod); podUses(pod, now) {
			// For a pod that is being resized the larger of what it has and what it
			// is to have counts.
			opts := podresource.PodResourcesOptions{UseStatusResources: true}
			addCompute(out, podresource.PodRequests(pod, opts), podresource.PodLimits(pod, opts))
			out[corev1.ResourcePods] = one()
		}
		return out
	}
	m.inScope = func(scope corev1.ScopedResourceSelectorRequirement, obj api.Object) bool {
		return podInScope(scope, obj.(*corev1.Pod))
	}
	m.demand = func(names []corev1.ResourceName, obj api.Object) error { return podDemand(names, obj.(*corev1.Pod)) }
	return m
}

// podUses tells whether a pod counts beyond being an object: not when it has
// ended or should have been gone already.
func podUses(pod *corev1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	left, waits := GraceLeft(pod, now)
	return !waits || left > 0
}

// GraceLeft is how long a pod that is being deleted may still take. ok is
// false for pods that are not.
func GraceLeft(pod *corev1.Pod, now time.Time) (left time.Duration, ok bool) {
	if pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil {
		return 0, false
	}
	grace := time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	return pod.DeletionTimestamp.Add(grace).Sub(now), true
}

// extended tells whether a resource is one that nodes advertise by a name with
// a domain of their own.
func extended(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix)
}

// addCompute puts requests and limits under the names that quotas have for them.
func addCompute(out, requests, limits corev1.ResourceList) {
	for name, q := range requests {
		request := corev1.DefaultResourceRequestsPrefix + name
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage,
			strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			out[name], out[request] = q, q
		case extended(string(name)):
			out[request] = q
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := limits[name]; ok {
			out["limits."+name] = q
		}
	}
}

// podDemand wants every container to say what a quota bounds, so that nobody
// gets round it by saying nothing. What the pod says as a whole goes for its
// containers.
func podDemand(names []corev1.ResourceName, pod *corev1.Pod) error {
	whole := corev1.ResourceList{}
	if pod.Spec.Resources != nil {
		addCompute(whole, pod.Spec.Resources.Requests, pod.Spec.Resources.Limits)
	}
	missing := map[corev1.ResourceName][]string{}
	for _, group := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range group {
			said := maps.Clone(whole)
			addCompute(said, group[i].Resources.Requests, group[i].Resources.Limits)
			for _, name := range names {
				if _, ok := said[name]; !ok && slices.Contains(computed, name) {
					missing[name] = append(missing[name], group[i].Name)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		slices.Sort(missing[name])
		texts = append(texts, fmt.Sprintf("%s for: %s", name, strings.Join(slices.Compact(missing[name]), ",")))
	}
	return fmt.Errorf("must specify %s", strings.Join(texts, "; "))
}

func podInScope(scope corev1.ScopedResourceSelectorRequirement, pod *corev1.Pod) bool {
	terminating := pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
	switch scope.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating
	case corev1.ResourceQuotaScopeBestEffort:
		return pod.Status.QOSClass == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return pod.Status.QOSClass != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		return selects(scope, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return looksAbroad(pod.Spec.Affinity)
	}
	return false
}

// looksAbroad tells whether an affinity has a term about pods of other
// namespaces.
func looksAbroad(affinity *corev1.Affinity) bool {
	if affinity == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	var weighted []corev1.WeightedPodAffinityTerm
	if a := affinity.PodAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted = append(weighted, a.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted = append(weighted, a.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	for _, w := range weighted {
		terms = append(terms, w.PodAffinityTerm)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}
