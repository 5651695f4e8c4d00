package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// priority gives a pod the priority of its class. A number of one's own would
// jump the queue and is refused; so is a second default class.
func priority() Plugin {
	return Plugin{
		Name: "Priority",
		Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
			pod, ok := r.Object.(*corev1.Pod)
			if !ok || !r.Is(api.Pods, api.Create) {
				return nil
			}
			class, err := priorityClass(ctx, r, pod.Spec.PriorityClassName)
			if err != nil {
				return err
			}
			return prioritize(r.Key, pod, class)
		},
		Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
			class, ok := r.Object.(*schedulingv1.PriorityClass)
			if !ok || !class.GlobalDefault || !r.Is(api.PriorityClasses, api.Create, api.Update) {
				return nil
			}
			other, err := priorityClass(ctx, r, "")
			if err != nil || other == nil || other.Name == class.Name {
				return err
			}
			return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name,
				fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
		},
	}
}

// priorityClass finds a class by name, or the default one; nil when there is no
// default. Of several defaults the lowest counts, as in Kubernetes.
func priorityClass(ctx context.Context, r *api.AdmissionRequest, name string) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		class, err := api.Get[*schedulingv1.PriorityClass](ctx, r.Client, api.PriorityClasses.Key("", name))
		if apierrors.IsNotFound(err) {
			return nil, apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, fmt.Errorf("no PriorityClass with name %v was found", name))
		}
		return class, err
	}
	list, err := r.Client.List(ctx, api.PriorityClasses.Key("", ""), api.ListOptions{})
	if err != nil {
		return nil, err
	}
	classes, err := api.Items[*schedulingv1.PriorityClass](list)
	if err != nil {
		return nil, err
	}
	classes = slices.DeleteFunc(classes, func(c *schedulingv1.PriorityClass) bool { return !c.GlobalDefault })
	if len(classes) == 0 {
		return nil, nil
	}
	return slices.MinFunc(classes, func(a, b *schedulingv1.PriorityClass) int {
		if a.Value != b.Value {
			return int(a.Value) - int(b.Value)
		}
		return strings.Compare(a.Name, b.Name)
	}), nil
}

func prioritize(key api.Key, pod *corev1.Pod, class *schedulingv1.PriorityClass) error {
	var value int32
	preemption := corev1.PreemptLowerPriority
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			preemption = *class.PreemptionPolicy
		}
	}
	refuse := func(format string, args ...any) error {
		return apierrors.NewForbidden(key.GroupResource(), key.Name, fmt.Errorf(format, args...))
	}
	if given := pod.Spec.Priority; given != nil && *given != value {
		return refuse("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, value)
	}
	if given := pod.Spec.PreemptionPolicy; given != nil && *given != preemption {
		return refuse("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, preemption)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &preemption
	return nil
}
