package kinds

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podresource "k8s.io/component-helpers/resource"
)

// defaultPodResources completes what is asked for a whole pod: a request that
// is not there is what the containers request together, otherwise the limit
// (https://kubernetes.io/docs/tasks/configure-pod-container/assign-pod-level-resources/).
func defaultPodResources(spec *corev1.PodSpec) {
	whole := spec.Resources
	if whole == nil || len(whole.Requests)+len(whole.Limits) == 0 {
		return
	}
	roundResources(whole.Requests)
	roundResources(whole.Limits)
	requests := corev1.ResourceList{}
	for name, limit := range whole.Limits {
		requests[name] = limit
	}
	for name, sum := range containerRequests(spec) {
		if podresource.IsSupportedPodLevelResource(name) {
			requests[name] = sum
		}
	}
	maps.Copy(requests, whole.Requests)
	whole.Requests = requests
}

// containerRequests is what the containers request together.
func containerRequests(spec *corev1.PodSpec) corev1.ResourceList {
	return podresource.AggregateContainerRequests(&corev1.Pod{Spec: *spec}, podresource.PodResourcesOptions{})
}

// validatePodResources checks what is asked for a whole pod: resources that
// can be shared, and no less than its containers ask for.
func validatePodResources(spec *corev1.PodSpec, at *field.Path) (errs field.ErrorList) {
	whole, path := spec.Resources, at.Child("resources")
	if whole == nil {
		return nil
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(path, "may not be set for a windows pod")}
	}
	if whole.Claims != nil {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, validateResources(whole, sharedResource, spec.ResourceClaims, path)...)
	pod := &corev1.Pod{Spec: *spec}
	sums := containerRequests(spec)
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		sum := sums[name]
		if request, ok := whole.Requests[name]; ok && request.Cmp(sum) < 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), request.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	sums = podresource.AggregateContainerLimits(pod, podresource.PodResourcesOptions{})
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		sum := sums[name]
		if most, ok := whole.Limits[name]; ok && hugePages(string(name)) && most.Cmp(sum) < 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), most.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", sum.String())))
		}
	}
	for i := range spec.Containers {
		limits := spec.Containers[i].Resources.Limits
		for _, name := range slices.Sorted(maps.Keys(limits)) {
			limit := limits[name]
			if most, ok := whole.Limits[name]; ok && limit.Cmp(most) > 0 {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", most.String())))
			}
		}
	}
	return errs
}

// sharedResource refuses what the containers of a pod cannot share.
func sharedResource(name string, at *field.Path) field.ErrorList {
	if errs := validateResourceName(name, at); len(errs) > 0 {
		return errs
	}
	if podresource.IsSupportedPodLevelResource(corev1.ResourceName(name)) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, corev1.ResourceName(name), sets.List(podresource.SupportedPodLevelResources()))}
}

// qosClass sorts a pod by its cpu and memory: Guaranteed when every container
// has limits equal to its requests, BestEffort when none has any. What is asked
// for the whole pod decides alone
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/).
func qosClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	var asked []corev1.ResourceRequirements
	if spec.Resources != nil {
		asked = append(asked, *spec.Resources)
	} else {
		for c := range eachContainer(spec) {
			asked = append(asked, c.Resources)
		}
	}
	guaranteed, any := true, false
	for _, r := range asked {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := r.Requests[name], r.Limits[name]
			if !request.IsZero() || !limit.IsZero() {
				any = true
			}
			if limit.IsZero() || request.Cmp(limit) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
