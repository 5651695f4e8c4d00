package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// statefulSets keeps the pods of StatefulSets, each with its own name and
// claims. Names make every creation repeatable, so only deletions are expected:
// with one that the informer does not show yet and a newer template, another
// pod would be next.
type statefulSets struct {
	client    api.Client
	sets      *reconcile.Informer
	pods      *reconcile.Informer
	claims    *reconcile.Informer
	owners    owners
	revisions revisions
	control   podControl
	recorder  *reconcile.Recorder
	now       func() time.Time
	loop      *reconcile.Loop
	written   latest
	removed   departed  // pods that were deleted here
	vacant    vacancies // names of pods that others have deleted
}

func newStatefulSets(cfg Config) runner {
	c := &statefulSets{
		client: cfg.Client,
		sets:   cfg.Informers.For(api.StatefulSets), pods: cfg.Informers.For(api.Pods),
		claims:  cfg.Informers.For(api.PersistentVolumeClaims),
		control: newPodControl(cfg, "statefulset-controller"),
		now:     cfg.Clock,
	}
	c.recorder = c.control.recorder
	c.owners = owners{client: cfg.Client, owner: api.StatefulSets, owned: api.Pods, objects: c.pods, member: func(set, pod api.Object) bool {
		_, ok := ordinalOf(set, pod)
		return ok
	}}
	c.loop = cfg.loop("statefulset", 8, c)
	c.pods.OnChange(func(old, new api.Object) { // before the loop hears of it
		if new == nil && isKind(metav1.GetControllerOfNoCopy(old), api.StatefulSets) && !c.removed.knows(old.GetUID()) {
			c.vacant.add(api.Pods.KeyOf(old), c.now())
		}
	})
	c.revisions = newRevisions(cfg, api.StatefulSets, func() *reconcile.Loop { return c.loop })
	podWatch{kind: api.StatefulSets, owners: c.sets, selector: selectorOf(api.StatefulSets, func(set *appsv1.StatefulSet) *metav1.LabelSelector { return set.Spec.Selector }),
		loop: c.loop, expect: c.control.expect}.start(c.pods)
	c.claims.OnChange(func(old, new api.Object) { // a pod may wait for its end
		if new != nil {
			return
		}
		for _, set := range reconcile.As[*appsv1.StatefulSet](c.sets.List(old.GetNamespace())) {
			if len(set.Spec.VolumeClaimTemplates) > 0 {
				c.loop.Enqueue(api.StatefulSets.KeyOf(set))
			}
		}
	})
	return c.loop
}

// Reconcile implements reconcile.Reconciler.
func (c *statefulSets) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	shown, ok := c.sets.Get(key)
	obj := c.written.of(key, shown)
	if !ok {
		return 0, nil
	}
	set, ok := obj.(*appsv1.StatefulSet)
	if !ok {
		return 0, fmt.Errorf("%s is a %T", key, obj)
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	if _, err := c.control.settle(ctx, set); err != nil {
		return 0, err
	}
	if !c.control.expect.satisfied(set.UID) {
		return expectationLife, nil // what is seen wakes the loop
	}
	claimed, err := c.owners.claim(ctx, set, selector)
	if err != nil {
		return 0, err
	}
	history, err := c.revisions.of(ctx, set, selector)
	if err != nil || set.DeletionTimestamp != nil && len(history) == 0 {
		return 0, err
	}
	collisions := set.Status.CollisionCount
	var update *appsv1.ControllerRevision
	if set.DeletionTimestamp != nil {
		update = history[len(history)-1]
	} else if update, history, collisions, err = c.revisions.latest(ctx, set, &set.Spec.Template, history, collisions); err != nil {
		return 0, err
	}
	current := update
	for _, rev := range history {
		if rev.Name == set.Status.CurrentRevision {
			current = rev
		}
	}
	r := newSetRound(set, reconcile.As[*corev1.Pod](claimed), current.Name, update.Name, c.now())
	r.rest = func(ordinal int) time.Duration {
		return c.vacant.rest(api.Pods.Key(set.Namespace, ordinalName(set, ordinal)), r.now)
	}
	plan := r.plan()
	failure := c.apply(ctx, r, plan, map[string]*appsv1.ControllerRevision{current.Name: current, update.Name: update})
	if err := c.writeStatus(ctx, set, r.status(collisions)); err != nil {
		return 0, errors.Join(failure, err)
	}
	if failure != nil || set.DeletionTimestamp != nil {
		return plan.again, failure
	}
	used := map[string]bool{current.Name: true, update.Name: true}
	for _, p := range r.pods {
		used[revisionLabel(p)] = true
	}
	return plan.again, c.revisions.truncate(ctx, history, used, set.Spec.RevisionHistoryLimit)
}

// apply does what a plan says. A stale claim only means waiting: its end wakes
// the set.
func (c *statefulSets) apply(ctx context.Context, r *setRound, plan setPlan, templates map[string]*appsv1.ControllerRevision) error {
	if r.set.DeletionTimestamp == nil {
		if err := c.keepClaims(ctx, r); err != nil {
			return err
		}
	}
	for _, p := range plan.repair {
		if err := c.repair(ctx, r.set, p); err != nil {
			return err
		}
	}
	err := each(len(plan.create), func(i int) error {
		return c.createPod(ctx, r, plan.create[i], templates[r.revisionFor(plan.create[i])])
	})
	if errors.Is(err, errStaleClaim) || namespaceGoing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return each(len(plan.remove), func(i int) error { return c.removePod(ctx, r.set, plan.remove[i]) })
}

// keepClaims looks after the claims of the pods that are there: missing ones of
// pods that have not begun, and everybody's owners.
func (c *statefulSets) keepClaims(ctx context.Context, r *setRound) error {
	if len(r.set.Spec.VolumeClaimTemplates) == 0 {
		return nil
	}
	for i, p := range r.replicas {
		if p == nil {
			continue
		}
		if p.Status.Phase == corev1.PodPending || p.Status.Phase == "" {
			if err := c.ensureClaims(ctx, r.set, r.start+i); err != nil && !errors.Is(err, errStaleClaim) {
				return err
			}
		}
		if err := c.retain(ctx, r.set, p, false); err != nil {
			return err
		}
	}
	for _, p := range r.condemned {
		if err := c.retain(ctx, r.set, p, true); err != nil {
			return err
		}
	}
	return nil
}

func (c *statefulSets) createPod(ctx context.Context, r *setRound, ordinal int, revision *appsv1.ControllerRevision) error {
	if err := c.ensureClaims(ctx, r.set, ordinal); err != nil {
		return err
	}
	template, err := templateIn(revision)
	if err != nil {
		return err
	}
	pod := podOfSet(r.set, template, revision.Name, ordinal)
	_, err = c.client.Create(ctx, api.Pods.KeyOf(pod), pod, api.CreateOptions{})
	switch {
	case err == nil:
		c.recorder.Event(r.set, corev1.EventTypeNormal, successfulCreate, "create Pod %s in StatefulSet %s successful", pod.Name, r.set.Name)
	case !apierrors.IsAlreadyExists(err) && !namespaceGoing(err) && ctx.Err() == nil:
		c.recorder.Event(r.set, corev1.EventTypeWarning, failedCreate, "create Pod %s in StatefulSet %s failed error: %v", pod.Name, r.set.Name, err)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", api.Pods.KeyOf(pod), err)
	}
	return nil
}

func (c *statefulSets) removePod(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	if podFinished(pod) {
		reason, how := "RecreatingFailedPod", "failed"
		if pod.Status.Phase == corev1.PodSucceeded {
			reason, how = "RecreatingTerminatedPod", "terminated"
		}
		c.recorder.Event(set, corev1.EventTypeWarning, reason, "StatefulSet %s/%s is recreating %s Pod %s", set.Namespace, set.Name, how, pod.Name)
	}
	c.control.expect.expectDeletion(set.UID, pod.UID)
	c.removed.add(pod.UID, c.now(), expectationLife)
	_, err := c.client.Delete(ctx, api.Pods.KeyOf(pod), api.DeleteOptions{UID: &pod.UID})
	if decided(err) {
		c.control.expect.deleted(set.UID, pod.UID)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		if !decided(err) {
			c.control.expect.doubtDeletion(set.UID, pod)
		}
		if !apierrors.IsConflict(err) && ctx.Err() == nil {
			c.recorder.Event(set, corev1.EventTypeWarning, failedDelete, "delete Pod %s in StatefulSet %s failed error: %v", pod.Name, set.Name, err)
		}
		return fmt.Errorf("delete %s: %w", api.Pods.KeyOf(pod), err)
	}
	c.recorder.Event(set, corev1.EventTypeNormal, successfulDelete, "delete Pod %s in StatefulSet %s successful", pod.Name, set.Name)
	return nil
}

// repair gives an adopted pod the labels of its ordinal.
func (c *statefulSets) repair(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	ordinal, _ := ordinalOf(set, pod)
	changed := pod.DeepCopy()
	setLabel(changed, appsv1.StatefulSetPodNameLabel, pod.Name)
	setLabel(changed, appsv1.PodIndexLabel, fmt.Sprint(ordinal))
	if _, err := c.client.Update(ctx, api.Pods.KeyOf(pod), changed, api.UpdateOptions{}); ignoreGone(err) != nil {
		return fmt.Errorf("label %s: %w", api.Pods.KeyOf(pod), err)
	}
	return nil
}

func (c *statefulSets) writeStatus(ctx context.Context, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	changed := set.DeepCopy()
	changed.Status = status
	return c.written.writeStatus(ctx, c.client, api.StatefulSets.KeyOf(set), changed)
}
