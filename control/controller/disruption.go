package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// evictionLife is how long a pod that was to be evicted counts as gone although
// it is there, as in Kubernetes.
const evictionLife = 2 * time.Minute

// disruptions keeps the status of PodDisruptionBudgets: how many pods may go
// (https://kubernetes.io/docs/tasks/run-application/configure-pdb/).
type disruptions struct {
	cfg      Config
	budgets  *reconcile.Informer
	pods     *reconcile.Informer
	recorder *reconcile.Recorder
	kinds    map[schema.GroupKind]api.Resource
}

func newDisruptions(cfg Config) runner {
	c := &disruptions{cfg: cfg, budgets: cfg.Informers.For(api.PodDisruptionBudgets), pods: cfg.Informers.For(api.Pods),
		recorder: cfg.Recorder.For("controllermanager"), kinds: kindsOf(cfg.Resources)}
	loop := cfg.loop("disruption", 2, c)
	c.budgets.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.PodDisruptionBudgets.KeyOf(new))
		}
	})
	c.pods.OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Pod)
		after, _ := new.(*corev1.Pod)
		if before != nil && after != nil && sameForBudgets(before, after) {
			return
		}
		for _, pod := range []*corev1.Pod{before, after} {
			if pod != nil {
				c.enqueueFor(loop, pod)
			}
		}
	})
	return loop
}

// sameForBudgets says that a change of a pod is nothing to budgets.
func sameForBudgets(before, after *corev1.Pod) bool {
	return isReady(before) == isReady(after) && podActive(before) == podActive(after) && maps.Equal(before.Labels, after.Labels)
}

func (c *disruptions) enqueueFor(loop *reconcile.Loop, pod *corev1.Pod) {
	for _, b := range reconcile.As[*policyv1.PodDisruptionBudget](c.budgets.List(pod.Namespace)) {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			loop.Enqueue(api.PodDisruptionBudgets.KeyOf(b))
		}
	}
}

// Reconcile brings one budget's status in line with its pods.
func (c *disruptions) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := c.budgets.Get(key)
	if !ok {
		return 0, nil
	}
	b := obj.(*policyv1.PodDisruptionBudget)
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	var pods []*corev1.Pod
	for _, p := range reconcile.As[*corev1.Pod](c.pods.List(b.Namespace)) {
		if selector.Matches(labels.Set(p.Labels)) {
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		c.recorder.Event(b, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	expected, unmanaged, err := c.expected(ctx, b, pods)
	if err == nil && unmanaged {
		c.recorder.Event(b, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. "+
			"As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
			"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", selector)
	}
	if err != nil {
		c.recorder.Event(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		return 0, errors.Join(err, c.write(ctx, b, failedBudget(b, err)))
	}
	status, again, stuck := budgetStatus(b, pods, expected, c.cfg.Clock())
	for _, name := range stuck {
		c.recorder.Event(b, corev1.EventTypeWarning, "NotDeleted", "Pod %s was expected by PDB %s/%s to be deleted but it wasn't", name, b.Namespace, b.Name)
	}
	return again, c.write(ctx, b, status)
}

func (c *disruptions) write(ctx context.Context, b *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) error {
	if equality.Semantic.DeepEqual(b.Status, status) {
		return nil
	}
	changed := b.DeepCopy()
	changed.Status = status
	_, err := c.cfg.Client.Update(ctx, api.PodDisruptionBudgets.KeyOf(b), changed, api.UpdateOptions{Subresource: "status"})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of %s: %w", api.PodDisruptionBudgets.KeyOf(b), err)
	}
	return nil
}

// expected is how many pods there should be: what the pods' controllers are
// asked for. unmanaged says that some pods have none and are not counted.
func (c *disruptions) expected(ctx context.Context, b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (sum int32, unmanaged bool, err error) {
	if b.Spec.MaxUnavailable == nil && (b.Spec.MinAvailable == nil || b.Spec.MinAvailable.StrVal == "") {
		return int32(len(pods)), false, nil
	}
	seen := map[types.UID]bool{}
	for _, p := range pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil {
			unmanaged = true
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		uid, scale, err := c.scale(ctx, p.Namespace, ref)
		if err != nil {
			return 0, unmanaged, err
		}
		if uid != ref.UID && seen[uid] {
			continue // two ReplicaSets of one Deployment
		}
		seen[uid] = true
		sum += scale
	}
	return sum, unmanaged, nil
}

// scale is how many pods a controller is asked for, or the one above it that
// can be scaled: a ReplicaSet's Deployment counts, not the ReplicaSet.
func (c *disruptions) scale(ctx context.Context, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, err
	}
	r, ok := c.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	if !ok {
		return "", 0, fmt.Errorf("%s %s is of a kind that is not served", ref.Kind, ref.Name)
	}
	if _, scalable := r.Subresource("scale"); !scalable {
		return "", 0, fmt.Errorf("%s does not implement the scale subresource", r.GroupResource())
	}
	key := r.Key(namespace, ref.Name)
	owner, err := api.Get[api.Object](ctx, c.cfg.Client, key)
	if apierrors.IsNotFound(err) || err == nil && owner.GetUID() != ref.UID {
		return ref.UID, 0, nil // its pods go with it
	}
	if err != nil {
		return "", 0, err
	}
	if above := metav1.GetControllerOfNoCopy(owner); above != nil {
		if uid, n, err := c.scale(ctx, namespace, above); err == nil {
			return uid, n, nil
		}
	}
	obj, err := c.cfg.Client.Get(ctx, key, api.GetOptions{Subresource: "scale"})
	if err != nil {
		return "", 0, err
	}
	rendered, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return "", 0, fmt.Errorf("the scale of %s is a %T", key, obj)
	}
	return owner.GetUID(), rendered.Spec.Replicas, nil
}

// budgetStatus is what a budget's status should say. again is when to look at
// it next, stuck names pods that were to be evicted and are still there.
func budgetStatus(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, expected int32, now time.Time) (
	s policyv1.PodDisruptionBudgetStatus, again time.Duration, stuck []string) {
	s = *b.Status.DeepCopy()
	s.ObservedGeneration, s.ExpectedPods = b.Generation, expected
	s.DesiredHealthy = desiredHealthy(b, expected)
	s.DisruptedPods, again, stuck = disrupted(b, pods, now)
	s.CurrentHealthy = 0
	for _, p := range pods {
		if _, going := s.DisruptedPods[p.Name]; !going && p.DeletionTimestamp == nil && isReady(p) {
			s.CurrentHealthy++
		}
	}
	s.DisruptionsAllowed = max(0, s.CurrentHealthy-s.DesiredHealthy)
	if expected <= 0 {
		s.DisruptionsAllowed = 0
	}
	condition := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionTrue,
		Reason: policyv1.SufficientPodsReason, ObservedGeneration: b.Generation, LastTransitionTime: metav1.NewTime(now)}
	if s.DisruptionsAllowed == 0 {
		condition.Status, condition.Reason = metav1.ConditionFalse, policyv1.InsufficientPodsReason
	}
	apimeta.SetStatusCondition(&s.Conditions, condition)
	return s, again, stuck
}

// desiredHealthy is how many pods must stay.
func desiredHealthy(b *policyv1.PodDisruptionBudget, expected int32) int32 {
	if most := b.Spec.MaxUnavailable; most != nil {
		return max(0, expected-scaled(*most, expected, true))
	}
	if least := b.Spec.MinAvailable; least != nil {
		return scaled(*least, expected, true)
	}
	return 0
}

// disrupted are the pods that were evicted and that the informer still has.
func disrupted(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, now time.Time) (left map[string]metav1.Time, again time.Duration, stuck []string) {
	for _, p := range pods {
		at, ok := b.Status.DisruptedPods[p.Name]
		if !ok || p.DeletionTimestamp != nil {
			continue
		}
		wait := at.Add(evictionLife).Sub(now)
		if wait <= 0 {
			stuck = append(stuck, p.Name)
			continue
		}
		if left == nil {
			left = map[string]metav1.Time{}
		}
		left[p.Name] = at
		if again == 0 || wait < again {
			again = wait
		}
	}
	slices.Sort(stuck)
	return left, again, stuck
}

// failedBudget allows nothing until it is known what may be allowed.
func failedBudget(b *policyv1.PodDisruptionBudget, err error) policyv1.PodDisruptionBudgetStatus {
	s := *b.Status.DeepCopy()
	s.DisruptionsAllowed = 0
	apimeta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse,
		Reason: policyv1.SyncFailedReason, Message: err.Error(), ObservedGeneration: b.Generation})
	return s
}
