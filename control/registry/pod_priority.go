package registry

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// admitPriority gives a pod the priority of its class, or of the class that is
// everybody's: a number of one's own would jump the queue (the Priority
// admission of Kubernetes).
func (r *Registry) admitPriority(ctx context.Context, pod *corev1.Pod) error {
	refuse := func(format string, args ...any) error {
		return apierrors.NewForbidden(api.Pods.GroupResource(), pod.Name, fmt.Errorf(format, args...))
	}
	class, err := r.priorityClass(ctx, pod.Spec.PriorityClassName)
	switch {
	case apierrors.IsNotFound(err):
		return refuse("no PriorityClass with name %v was found", pod.Spec.PriorityClassName)
	case err != nil:
		return err
	}
	value, policy := class.Value, corev1.PreemptLowerPriority
	if class.PreemptionPolicy != nil {
		policy = *class.PreemptionPolicy
	}
	if given := pod.Spec.Priority; given != nil && *given != value {
		return refuse("the integer value of priority (%d) must not be provided in pod spec; "+
			"priority admission controller computed %d from the given PriorityClass name", *given, value)
	}
	if given := pod.Spec.PreemptionPolicy; given != nil && *given != policy && class.Name != "" {
		return refuse("the string value of PreemptionPolicy (%s) must not be provided in pod spec; "+
			"priority admission controller computed %s from the given PriorityClass name", *given, policy)
	}
	pod.Spec.PriorityClassName, pod.Spec.Priority = class.Name, &value
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = &policy
	}
	return nil
}

// priorityClass finds a class by name. Without a name it is the lowest of the
// classes that are everybody's, or one without a name and of priority 0.
func (r *Registry) priorityClass(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		return api.Get[*schedulingv1.PriorityClass](ctx, r, api.PriorityClasses.Key("", name))
	}
	list, err := r.List(ctx, api.PriorityClasses.Key("", ""), api.ListOptions{})
	if err != nil {
		return nil, err
	}
	found := &schedulingv1.PriorityClass{}
	for _, obj := range list.Items {
		class, ok := obj.(*schedulingv1.PriorityClass)
		if ok && class.GlobalDefault && (found.Name == "" || class.Value < found.Value) {
			found = class
		}
	}
	return found, nil
}
