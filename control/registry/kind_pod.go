package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// priorityOf are the priority classes that every cluster has.
var priorityOf = map[string]int32{"": 0, "system-cluster-critical": 2000000000, "system-node-critical": 2000001000}

func (r *Registry) pods() Strategy[*corev1.Pod] {
	return Strategy[*corev1.Pod]{
		Resource:       api.Pods,
		Default:        defaultPod,
		Admit:          r.admitPod,
		Create:         createPod,
		Validate:       validatePod,
		ValidateUpdate: validatePodUpdate,
		Spec:           func(p *corev1.Pod) any { return &p.Spec },
		Status:         func(p *corev1.Pod) any { return &p.Status },
		UpdateStatus:   func(p, old *corev1.Pod) { p.OwnerReferences = old.OwnerReferences },
		ValidateStatus: validatePodStatus,
		Generation:     true,
		Fields: map[string]func(*corev1.Pod) string{
			"spec.nodeName":            func(p *corev1.Pod) string { return p.Spec.NodeName },
			"spec.restartPolicy":       func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
			"spec.schedulerName":       func(p *corev1.Pod) string { return p.Spec.SchedulerName },
			"spec.serviceAccountName":  func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
			"spec.hostNetwork":         func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) },
			"status.phase":             func(p *corev1.Pod) string { return string(p.Status.Phase) },
			"status.podIP":             func(p *corev1.Pod) string { return p.Status.PodIP },
			"status.podIPs":            func(p *corev1.Pod) string { return p.Status.PodIP },
			"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
		},
		Grace:        podGrace,
		Subresources: map[string]subresource{"binding": {create: bind}},
		Columns: columns("Name", "Ready", "Status", "Restarts", "Age",
			"+IP", "+Node", "+Nominated Node", "+Readiness Gates"),
		Row: podRow,
	}
}

// admitPod wants the pod's service account to exist and takes its pull
// secrets. The account "default" may come later: its controller may not have
// seen the namespace yet, and nothing here needs more than its name.
func (r *Registry) admitPod(ctx context.Context, pod *corev1.Pod) error {
	if err := admitPriority(pod); err != nil {
		return err
	}
	name := pod.Spec.ServiceAccountName
	or(&name, defaultServiceAccount)
	key := api.ServiceAccounts.Key(pod.Namespace, name)
	k, err := r.objectKind(key)
	if err != nil {
		return err
	}
	_, obj, err := r.load(ctx, k, key)
	if errors.Is(err, store.ErrNotFound) {
		if name == defaultServiceAccount {
			return nil
		}
		return apierrors.NewForbidden(api.Pods.GroupResource(), pod.Name,
			fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", pod.Namespace, name, name))
	}
	if err != nil {
		return err
	}
	if account, ok := obj.(*corev1.ServiceAccount); ok && len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}

// admitPriority wants the pod's priority to be that of its class: a number of
// one's own would jump the queue (the Priority admission of Kubernetes).
func admitPriority(pod *corev1.Pod) error {
	class := pod.Spec.PriorityClassName
	value, ok := priorityOf[class]
	if !ok {
		return apierrors.NewForbidden(api.Pods.GroupResource(), pod.Name, fmt.Errorf("no PriorityClass with name %v was found", class))
	}
	if given := pod.Spec.Priority; given != nil && *given != value {
		return apierrors.NewForbidden(api.Pods.GroupResource(), pod.Name, fmt.Errorf(
			"the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name",
			*given, value))
	}
	return nil
}

// podGrace is the grace period of a pod: at once when it never ran or has
// ended, else what was asked for, else its own.
func podGrace(pod *corev1.Pod, asked *int64) int64 {
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return 0
	}
	period := defaultGraceSeconds
	switch {
	case asked != nil:
		period = *asked
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if period < 0 {
		return 1
	}
	return period
}

// bind assigns a pod to a node: POST pods/x/binding. It returns the binding;
// over HTTP the answer is a Status.
func bind(ctx context.Context, r *Registry, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	binding, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object is a %T, want a Binding", obj))
	}
	or(&key.Name, binding.Name)
	or(&key.Namespace, binding.Namespace)
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
	free := door{prepare: func(_, _ api.Object) {}, validate: k.status.validate, silent: true}
	_, err = r.modify(ctx, k, key, &free, opts.DryRun, func(old api.Object) (api.Object, error) {
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

func podRow(pod *corev1.Pod, now time.Time) []any {
	gates := "<none>"
	if n := len(pod.Spec.ReadinessGates); n > 0 {
		met := 0
		for _, gate := range pod.Spec.ReadinessGates {
			for _, c := range pod.Status.Conditions {
				if c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue {
					met++
				}
			}
		}
		gates = fmt.Sprintf("%d/%d", met, n)
	}
	s := summarize(pod)
	restarts := strconv.Itoa(s.restarts)
	if s.restarts > 0 && !s.lastRestart.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts, duration.HumanDuration(now.Sub(s.lastRestart.Time)))
	}
	return []any{pod.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, restarts, age(pod.CreationTimestamp, now),
		none(pod.Status.PodIP), none(pod.Spec.NodeName), none(pod.Status.NominatedNodeName), gates}
}
