package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// replicaSets keeps the number of pods of each ReplicaSet.
type replicaSets struct {
	client   api.Client
	sets     *reconcile.Informer
	pods     *reconcile.Informer
	owners   owners
	expect   *expectations
	recorder *reconcile.Recorder
	now      func() time.Time
	loop     *reconcile.Loop
	written  latest
}

func newReplicaSets(cfg Config) runner {
	r := &replicaSets{
		client: cfg.Client,
		sets:   cfg.Informers.For(api.ReplicaSets), pods: cfg.Informers.For(api.Pods),
		expect:   newExpectations(cfg.Clock),
		recorder: cfg.Recorder.For("replicaset-controller"),
		now:      cfg.Clock,
	}
	r.owners = owners{client: cfg.Client, owner: api.ReplicaSets, owned: api.Pods, objects: r.pods}
	r.loop = cfg.loop("replicaset", 8, r)
	indexOwners(r.sets)
	indexOwners(r.pods)
	r.sets.OnChange(r.setChanged)
	r.pods.OnChange(r.podChanged)
	return r.loop
}

func (r *replicaSets) setChanged(old, new api.Object) {
	if new == nil {
		r.expect.forget(old.GetUID())
		return
	}
	r.loop.Enqueue(api.ReplicaSets.KeyOf(new))
}

// podChanged tells the expectations what has been seen and queues every
// ReplicaSet that the change may concern.
func (r *replicaSets) podChanged(old, new api.Object) {
	if old != nil {
		ref := metav1.GetControllerOfNoCopy(old)
		if new == nil || (new.GetDeletionTimestamp() != nil && old.GetDeletionTimestamp() == nil) {
			r.seenDeleted(ref, old)
		}
		if isKind(ref, api.ReplicaSets) {
			r.loop.Enqueue(api.ReplicaSets.Key(old.GetNamespace(), ref.Name))
		}
	}
	if new == nil {
		return
	}
	ref := metav1.GetControllerOfNoCopy(new)
	if ref == nil {
		r.enqueueMatching(old, new)
		return
	}
	if !isKind(ref, api.ReplicaSets) {
		return
	}
	if old == nil {
		r.expect.created(ref.UID, 1)
		if new.GetDeletionTimestamp() != nil {
			r.seenDeleted(ref, new)
		}
	}
	r.loop.Enqueue(api.ReplicaSets.Key(new.GetNamespace(), ref.Name))
}

func (r *replicaSets) seenDeleted(ref *metav1.OwnerReference, pod api.Object) {
	if isKind(ref, api.ReplicaSets) {
		r.expect.deleted(ref.UID, pod.GetUID())
	}
}

// enqueueMatching queues the ReplicaSets that may adopt an orphan, if it is
// new or its labels or owners have changed.
func (r *replicaSets) enqueueMatching(old, new api.Object) {
	if old != nil && equality.Semantic.DeepEqual(old.GetLabels(), new.GetLabels()) &&
		metav1.GetControllerOfNoCopy(old) == nil {
		return
	}
	for _, rs := range reconcile.As[*appsv1.ReplicaSet](r.sets.List(new.GetNamespace())) {
		selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(new.GetLabels())) {
			r.loop.Enqueue(api.ReplicaSets.KeyOf(rs))
		}
	}
}

// Reconcile implements reconcile.Reconciler.
func (r *replicaSets) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := r.sets.Get(key)
	obj = r.written.of(key, obj)
	if !ok {
		return 0, nil
	}
	rs, ok := obj.(*appsv1.ReplicaSet)
	if !ok {
		return 0, fmt.Errorf("%s is a %T", key, obj)
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	// Asked before the pods are read: what is seen afterwards can only be newer.
	current := r.expect.satisfied(rs.UID)
	claimed, err := r.owners.claim(ctx, rs, selector)
	if err != nil {
		return 0, err
	}
	owned := reconcile.As[*corev1.Pod](claimed)
	var failure error
	var plan replicaPlan
	if current && rs.DeletionTimestamp == nil {
		var active []*corev1.Pod
		for _, p := range owned {
			if podActive(p) {
				active = append(active, p)
			}
		}
		plan = planReplicas(rs, active, func() []*corev1.Pod { return r.related(rs) }, r.now())
		failure = r.apply(ctx, rs, plan)
	}
	status, again := replicaSetStatus(rs, owned, plan.create > 0, failure, r.now())
	if err := r.writeStatus(ctx, rs, status); err != nil {
		return 0, errors.Join(failure, err)
	}
	return again, failure
}

// related are the pods of all ReplicaSets with the same controller.
func (r *replicaSets) related(rs *appsv1.ReplicaSet) []*corev1.Pod {
	siblings := []api.Object{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		siblings = r.sets.ByIndex(byController, string(ref.UID))
	}
	var pods []*corev1.Pod
	for _, s := range siblings {
		pods = append(pods, reconcile.As[*corev1.Pod](r.pods.ByIndex(byController, string(s.GetUID())))...)
	}
	return pods
}

func (r *replicaSets) apply(ctx context.Context, rs *appsv1.ReplicaSet, plan replicaPlan) error {
	if plan.create > 0 {
		return r.create(ctx, rs, plan.create)
	}
	if len(plan.remove) > 0 {
		return r.remove(ctx, rs, plan.remove)
	}
	return nil
}

// create makes n pods, at first one, then twice as many at a time as long as
// all succeed: when all fail for the same reason (a quota, a bad template) one
// request finds it out instead of hundreds.
func (r *replicaSets) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	r.expect.expectCreations(rs.UID, n)
	for batch, left := 1, n; left > 0; batch *= 2 {
		size := min(batch, left)
		err := each(size, func(int) error {
			err := r.createPod(ctx, rs)
			if err != nil {
				r.expect.created(rs.UID, 1) // it will not come
			}
			return err
		})
		left -= size
		if err != nil {
			r.expect.created(rs.UID, left)
			if namespaceGoing(err) {
				return nil // the ReplicaSet goes with it
			}
			return err
		}
	}
	return nil
}

func (r *replicaSets) createPod(ctx context.Context, rs *appsv1.ReplicaSet) error {
	pod, err := r.client.Create(ctx, api.Pods.Key(rs.Namespace, ""), podOf(rs), api.CreateOptions{})
	if err != nil {
		if !namespaceGoing(err) && ctx.Err() == nil {
			r.recorder.Event(rs, corev1.EventTypeWarning, failedCreate, "Error creating: %v", err)
		}
		return err
	}
	r.recorder.Event(rs, corev1.EventTypeNormal, successfulCreate, "Created pod: %s", pod.GetName())
	return nil
}

func (r *replicaSets) remove(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	uids := make([]types.UID, len(pods))
	for i, p := range pods {
		uids[i] = p.UID
	}
	r.expect.expectDeletions(rs.UID, uids)
	return each(len(pods), func(i int) error {
		pod := pods[i]
		_, err := r.client.Delete(ctx, api.Pods.KeyOf(pod), api.DeleteOptions{UID: &pod.UID})
		if err == nil {
			r.recorder.Event(rs, corev1.EventTypeNormal, successfulDelete, "Deleted pod: %s", pod.Name)
			return nil
		}
		r.expect.deleted(rs.UID, pod.UID)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // it, or the pod we meant, is gone already
		}
		r.recorder.Event(rs, corev1.EventTypeWarning, failedDelete, "Error deleting: %v", err)
		return err
	})
}

func (r *replicaSets) writeStatus(ctx context.Context, rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return nil
	}
	changed := rs.DeepCopy()
	changed.Status = status
	stored, err := r.client.Update(ctx, api.ReplicaSets.KeyOf(rs), changed, api.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the status of %s: %w", api.ReplicaSets.KeyOf(rs), err)
	}
	r.written.add(api.ReplicaSets.KeyOf(rs), stored)
	return nil
}

// each calls f(0) to f(n-1) at the same time, waits for all and returns one of
// the errors.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
