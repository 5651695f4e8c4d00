package registry

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// bind assigns a pod to a node: POST pods/x/binding. It returns the binding;
// over HTTP the answer is a Status.
func (r *Registry) bind(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	binding, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object is a %T, want a Binding", obj))
	}
	if key.Name == "" {
		key.Name = binding.Name
	}
	if key.Namespace == "" {
		key.Namespace = binding.Namespace
	}
	k, err := r.objectKind(key)
	if err != nil {
		return nil, err
	}
	if kind := binding.Target.Kind; kind != "" && kind != "Node" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("target.kind: Unsupported value: %q: supported values: \"Node\", \"<empty>\"", kind))
	}
	if binding.Target.Name == "" {
		return nil, apierrors.NewBadRequest("target.name: Required value")
	}
	free := kinds.Door{Prepare: func(_, _ api.Object) {}, Validate: k.status.Validate, Silent: true}
	_, err = r.modify(ctx, k, key, write{through: &free, sub: "binding", dry: opts.DryRun, judged: true, owned: true}, func(old api.Object) (api.Object, error) {
		return bound(key, old.(*corev1.Pod), binding, r.stamp())
	})
	if err != nil {
		return nil, r.fail(ctx, key, err)
	}
	done := binding.DeepCopy()
	done.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Binding"}
	done.Namespace, done.Name = key.Namespace, key.Name
	return done, nil
}

// bound returns a copy of pod on its node, or why it cannot be.
func bound(key api.Key, old *corev1.Pod, binding *corev1.Binding, now metav1.Time) (*corev1.Pod, error) {
	conflict := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, key.Name, fmt.Errorf(format, args...))
	}
	if uid := binding.UID; uid != "" && uid != old.UID {
		return nil, conflict("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", uid, old.UID)
	}
	switch {
	case old.DeletionTimestamp != nil:
		return nil, conflict("pod %s is being deleted, cannot be assigned to a host", old.Name)
	case old.Spec.NodeName != "":
		return nil, conflict("pod %v is already assigned to node %q", old.Name, old.Spec.NodeName)
	case len(old.Spec.SchedulingGates) > 0:
		return nil, conflict("pod %v has non-empty .spec.schedulingGates", old.Name)
	}
	pod := old.DeepCopy()
	pod.Spec.NodeName = binding.Target.Name
	for name, value := range binding.Annotations {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[name] = value
	}
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now,
		ObservedGeneration: pod.Generation}
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	if i < 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, scheduled)
	} else {
		pod.Status.Conditions[i] = scheduled
	}
	pod.Status.NominatedNodeName = ""
	return pod, nil
}
