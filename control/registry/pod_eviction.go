package registry

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// maxUnconfirmed is how many evictions of a budget may wait for its controller
// to see them, as in Kubernetes.
const maxUnconfirmed = 2000

// evict ends a pod if its disruption budgets allow: POST pods/x/eviction
// (https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/).
func (r *Registry) evict(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	eviction, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object is a %T, want an Eviction of policy/v1", obj))
	}
	if eviction.Name != "" && eviction.Name != key.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	k, err := r.objectKind(key)
	if err != nil {
		return nil, err
	}
	remove := evictionOptions(eviction, opts)
	for try := 1; ; try++ {
		err := r.evictOnce(ctx, k, key, remove)
		if errors.Is(err, store.ErrConflict) && try < raceTries && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, r.fail(ctx, key, err)
		}
		return eviction, nil
	}
}

func evictionOptions(eviction *policyv1.Eviction, opts api.CreateOptions) api.DeleteOptions {
	out := api.DeleteOptions{DryRun: opts.DryRun}
	if in := eviction.DeleteOptions; in != nil {
		out.DryRun = out.DryRun || len(in.DryRun) > 0
		out.GracePeriodSeconds, out.Propagation = in.GracePeriodSeconds, in.PropagationPolicy
		if in.Preconditions != nil {
			out.UID, out.ResourceVersion = in.Preconditions.UID, in.Preconditions.ResourceVersion
		}
	}
	return out
}

// evictOnce is one try of an eviction; store.ErrConflict means that the pod
// changed meanwhile and must be judged again.
func (r *Registry) evictOnce(ctx context.Context, k *kind, key api.Key, remove api.DeleteOptions) error {
	_, old, err := r.load(ctx, k, key)
	if err != nil {
		return err
	}
	pod := old.(*corev1.Pod)
	if err := deletePreconditions(key, pod, remove); err != nil {
		return err
	}
	pinned := false // the judgement holds for this state of the pod only
	if !undisturbed(pod) {
		budget, err := r.budgetOf(ctx, pod)
		if err != nil {
			return err
		}
		if budget != nil {
			if pinned = mayGoUnhealthy(pod, budget); !pinned {
				if err := r.spend(ctx, budget, pod, remove.DryRun); err != nil {
					return err
				}
			}
		}
	}
	if remove.DryRun {
		_, err := r.Delete(ctx, key, remove)
		return err
	}
	return r.endEvicted(ctx, k, key, pod, remove, pinned)
}

// undisturbed says that the end of the pod takes nothing away from anybody:
// budgets do not matter.
func undisturbed(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return true
	}
	return pod.DeletionTimestamp != nil
}

// budgetOf returns the budget that protects the pod, nil when there is none.
func (r *Registry) budgetOf(ctx context.Context, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	list, err := r.List(ctx, api.PodDisruptionBudgets.Key(pod.Namespace, ""), api.ListOptions{})
	if err != nil {
		return nil, err
	}
	var found *policyv1.PodDisruptionBudget
	for _, obj := range list.Items {
		budget, ok := obj.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
			continue // a selector that does not parse was refused; it protects nothing
		}
		if found != nil {
			//lint:ignore ST1005 these are Kubernetes' words
			return nil, apierrors.NewInternalError(errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
		}
		found = budget
	}
	return found, nil
}

// mayGoUnhealthy says whether the pod may go without asking its budget, because
// it is not ready (unhealthyPodEvictionPolicy).
func mayGoUnhealthy(pod *corev1.Pod, budget *policyv1.PodDisruptionBudget) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	if p := budget.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return budget.Status.CurrentHealthy >= budget.Status.DesiredHealthy && budget.Status.DesiredHealthy > 0
}

// spend takes one disruption from the budget, or says why there is none.
func (r *Registry) spend(ctx context.Context, budget *policyv1.PodDisruptionBudget, pod *corev1.Pod, dry bool) error {
	key := api.PodDisruptionBudgets.KeyOf(budget)
	k, err := r.objectKind(key)
	if err != nil {
		return err
	}
	_, err = r.modify(ctx, k, key, write{through: &k.status, sub: "status", dry: dry, judged: true}, func(old api.Object) (api.Object, error) {
		b := copyOf(old).(*policyv1.PodDisruptionBudget)
		if err := refusal(b); err != nil {
			return nil, err
		}
		b.Status.DisruptionsAllowed--
		if b.Status.DisruptionsAllowed == 0 {
			apimeta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: policyv1.DisruptionAllowedCondition,
				Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason, ObservedGeneration: b.Generation})
		}
		if b.Status.DisruptedPods == nil {
			b.Status.DisruptedPods = map[string]metav1.Time{}
		}
		b.Status.DisruptedPods[pod.Name] = r.stamp()
		return b, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // the budget is gone, and with it the protection
	}
	return err
}

// refusal says why a budget allows no disruption, nil when it allows one.
func refusal(b *policyv1.PodDisruptionBudget) error {
	s := &b.Status
	switch {
	case s.ObservedGeneration < b.Generation:
		return tooMany(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name))
	case s.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(api.PodDisruptionBudgets.GroupResource(), b.Name, errors.New("pdb disruptions allowed is negative"))
	case len(s.DisruptedPods) > maxUnconfirmed:
		return apierrors.NewForbidden(api.PodDisruptionBudgets.GroupResource(), b.Name,
			errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case s.DisruptionsAllowed > 0:
		return nil
	}
	if c := apimeta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); c != nil && c.Reason == policyv1.SyncFailedReason {
		return tooMany(0, fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %v", b.Name, c.Message))
	}
	return tooMany(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, s.DesiredHealthy, s.CurrentHealthy))
}

func tooMany(retryAfter int, cause string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retryAfter)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return err
}

// endEvicted marks the pod as disrupted and deletes it. When pinned, it is
// judged again if it has changed since.
func (r *Registry) endEvicted(ctx context.Context, k *kind, key api.Key, pod *corev1.Pod, remove api.DeleteOptions, pinned bool) error {
	uid := pod.UID
	remove.UID = &uid
	free := kinds.Door{Prepare: func(_, _ api.Object) {}, Validate: k.status.Validate, Silent: true}
	marked, err := r.modify(ctx, k, key, write{through: &free, sub: "eviction", judged: true}, func(old api.Object) (api.Object, error) {
		if old.GetUID() != uid {
			return nil, store.ErrNotFound
		}
		if pinned && old.GetResourceVersion() != pod.ResourceVersion {
			return nil, errJudgeAgain
		}
		p := copyOf(old).(*corev1.Pod)
		setPodCondition(&p.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting", LastTransitionTime: r.stamp(), ObservedGeneration: p.Generation})
		return p, nil
	})
	if errors.Is(err, errJudgeAgain) {
		return store.ErrConflict
	}
	if err != nil {
		return err
	}
	if remove.ResourceVersion != nil { // it was that one a moment ago; the mark changed it
		version := marked.GetResourceVersion()
		remove.ResourceVersion = &version
	}
	_, err = r.Delete(ctx, key, remove)
	return err
}

// errJudgeAgain: a pod changed between the judgement and the deed.
var errJudgeAgain = errors.New("the pod has changed")

// setPodCondition adds a condition or replaces that of its type; the time of
// the transition is kept when the status is the same.
func setPodCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	for i := range s.Conditions {
		if old := &s.Conditions[i]; old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}
