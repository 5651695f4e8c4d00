package kinds

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// resizable are the resources that a running pod can be given more or less of
// (https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/).
var resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// resize is pods/resize: the pod, of which only the resources of its containers
// can be written.
func resize() Subresource {
	return Subresource{
		Get: itself,
		Apply: func(parent, changed api.Object) error {
			to, from := &parent.(*corev1.Pod).Spec, &changed.(*corev1.Pod).Spec
			takeSizes(to.Containers, from.Containers)
			takeSizes(to.InitContainers, from.InitContainers)
			return nil
		},
		Door: &Door{
			Prepare: func(_, _ api.Object) {},
			Validate: func(obj, old api.Object) field.ErrorList {
				return validateResize(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
		},
	}
}

// takeSizes takes over what resize may change, by the containers' names.
func takeSizes(to, from []corev1.Container) {
	for i := range to {
		j := slices.IndexFunc(from, func(c corev1.Container) bool { return c.Name == to[i].Name })
		if j >= 0 {
			to[i].Resources, to[i].ResizePolicy = from[j].Resources, from[j].ResizePolicy
		}
	}
}

// validateResize follows ValidatePodResize of Kubernetes.
func validateResize(pod, old *corev1.Pod) (errs field.ErrorList) {
	at := field.NewPath("spec")
	if _, mirror := old.Annotations[mirrorAnnotation]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if qosClass(&pod.Spec) != qosClass(&old.Spec) {
		errs = append(errs, field.Invalid(at, qosClass(&pod.Spec), "Pod QOS Class may not change as a result of resizing"))
	}
	errs = append(errs, validateSizes(pod.Spec.Containers, old.Spec.Containers, at.Child("containers"))...)
	errs = append(errs, validateSizes(pod.Spec.InitContainers, old.Spec.InitContainers, at.Child("initContainers"))...)
	for i := range old.Spec.InitContainers {
		before, after := &old.Spec.InitContainers[i], &pod.Spec.InitContainers[i]
		sidecar := before.RestartPolicy != nil && *before.RestartPolicy == corev1.ContainerRestartPolicyAlways
		if !sidecar && !apiequality.Semantic.DeepEqual(before.Resources, after.Resources) {
			errs = append(errs, field.Forbidden(at.Child("initContainers").Index(i).Child("resources"),
				"resources for non-sidecar init containers are immutable"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	rest := pod.Spec.DeepCopy()
	forgetSizes(rest.Containers, old.Spec.Containers)
	forgetSizes(rest.InitContainers, old.Spec.InitContainers)
	if !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(at, fmt.Sprintf("only cpu and memory resources are mutable\n%v", diff.Diff(hubValue{old.Spec}, hubValue{rest}))))
	}
	return errs
}

// forgetSizes sets cpu and memory back to what they were.
func forgetSizes(list, old []corev1.Container) {
	for i := range list {
		list[i].Resources = *list[i].Resources.DeepCopy()
		for _, pair := range [][2]*corev1.ResourceList{
			{&list[i].Resources.Limits, &old[i].Resources.Limits}, {&list[i].Resources.Requests, &old[i].Resources.Requests}} {
			for _, name := range resizable {
				if was, ok := (*pair[1])[name]; ok && *pair[0] != nil {
					(*pair[0])[name] = was
				} else {
					delete(*pair[0], name)
				}
			}
		}
	}
}

func validateSizes(list, old []corev1.Container, at *field.Path) (errs field.ErrorList) {
	for i := range list {
		at := at.Index(i).Child("resources")
		errs = append(errs, validateResources(&list[i].Resources, validateContainerResource, nil, at)...)
		for _, name := range resizable {
			if gone(old[i].Resources.Limits, list[i].Resources.Limits, name) {
				errs = append(errs, field.Forbidden(at.Child("limits"), "resource limits cannot be removed"))
			}
			if gone(old[i].Resources.Requests, list[i].Resources.Requests, name) {
				errs = append(errs, field.Forbidden(at.Child("requests"), "resource requests cannot be removed"))
			}
		}
	}
	return errs
}

func gone(before, after corev1.ResourceList, name corev1.ResourceName) bool {
	_, was := before[name]
	_, is := after[name]
	return was && !is
}

// fieldName is a field's name in the API.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
