package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// How long a failed pod stays before its node gets another one: doubled with
// each failure, so that a DaemonSet does not fight with a node that refuses
// its pods.
const (
	firstDaemonBackoff = time.Second
	lastDaemonBackoff  = 15 * time.Minute
)

// daemonBurst bounds what one round creates or deletes.
const daemonBurst = 250

// daemonSets keeps one pod on each node that a DaemonSet is for.
type daemonSets struct {
	client    api.Client
	sets      *reconcile.Informer
	pods      *reconcile.Informer
	nodes     *reconcile.Informer
	owners    owners
	revisions revisions
	control   podControl
	failures  *flowcontrol.Backoff
	now       func() time.Time
	loop      *reconcile.Loop
	written   latest
}

func newDaemonSets(cfg Config) runner {
	c := &daemonSets{
		client: cfg.Client,
		sets:   cfg.Informers.For(api.DaemonSets), pods: cfg.Informers.For(api.Pods), nodes: cfg.Informers.For(api.Nodes),
		control:  newPodControl(cfg, "daemonset-controller"),
		failures: flowcontrol.NewBackOff(firstDaemonBackoff, lastDaemonBackoff),
		now:      cfg.Clock,
	}
	c.owners = owners{client: cfg.Client, owner: api.DaemonSets, owned: api.Pods, objects: c.pods}
	c.loop = cfg.loop("daemonset", 4, c)
	c.revisions = newRevisions(cfg, api.DaemonSets, func() *reconcile.Loop { return c.loop })
	podWatch{kind: api.DaemonSets, owners: c.sets, selector: selectorOf(api.DaemonSets, func(ds *appsv1.DaemonSet) *metav1.LabelSelector { return ds.Spec.Selector }), loop: c.loop, expect: c.control.expect}.start(c.pods)
	c.nodes.OnChange(func(old, new api.Object) {
		before, wasNode := old.(*corev1.Node)
		after, isNode := new.(*corev1.Node)
		if wasNode && isNode && equality.Semantic.DeepEqual(before.Labels, after.Labels) &&
			equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints) {
			return // a heartbeat
		}
		for _, ds := range c.sets.List("") {
			c.loop.Enqueue(api.DaemonSets.KeyOf(ds))
		}
	})
	return c.loop
}

// Reconcile implements reconcile.Reconciler.
func (c *daemonSets) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	shown, ok := c.sets.Get(key)
	obj := c.written.of(key, shown)
	if !ok {
		return 0, nil
	}
	ds, ok := obj.(*appsv1.DaemonSet)
	if !ok {
		return 0, fmt.Errorf("%s is a %T", key, obj)
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	if selector.Empty() {
		c.control.recorder.Event(ds, corev1.EventTypeWarning, "SelectingAll",
			"This daemon set is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	if ds.DeletionTimestamp != nil {
		return 0, nil
	}
	_, doubt := c.control.settle(ctx, ds)
	// Asked before the pods are read: what is seen afterwards can only be newer.
	current := doubt == nil && c.control.expect.satisfied(ds.UID)
	claimed, err := c.owners.claim(ctx, ds, selector)
	if err != nil {
		return 0, errors.Join(doubt, err)
	}
	history, err := c.revisions.of(ctx, ds, selector)
	if err != nil {
		return 0, errors.Join(doubt, err)
	}
	update, history, collisions, err := c.revisions.latest(ctx, ds, &ds.Spec.Template, history, ds.Status.CollisionCount)
	if err != nil {
		return 0, errors.Join(doubt, err)
	}
	r := newDaemonRound(ds, update.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], reconcile.As[*corev1.Node](c.nodes.List("")),
		reconcile.As[*corev1.Pod](claimed), c.now())
	failure := doubt
	again := expectationLife // should the informer never show what it should
	if current {
		again, failure = c.apply(ctx, r, r.plan())
	}
	if err := c.writeStatus(ctx, ds, r.status(collisions)); err != nil || failure != nil {
		return 0, errors.Join(failure, err)
	}
	return again, c.truncate(ctx, r, history, update)
}

// apply does what a plan says. again is when to look again even if nothing
// happens.
func (c *daemonSets) apply(ctx context.Context, r *daemonRound, plan daemonPlan) (again time.Duration, err error) {
	again = plan.again
	for _, p := range plan.failed {
		if slices.Contains(plan.remove, p) {
			continue // it is replaced anyway
		}
		key := fmt.Sprintf("%s/%d/%s", r.ds.UID, r.ds.Status.ObservedGeneration, targetOf(p))
		if c.failures.IsInBackOffSinceUpdate(key, c.now()) {
			if wait := c.failures.Get(key); again == 0 || wait < again {
				again = wait
			}
			continue
		}
		c.failures.Next(key, c.now())
		c.control.recorder.Event(r.ds, corev1.EventTypeWarning, "FailedDaemonPod",
			"Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, targetOf(p))
		plan.remove = append(plan.remove, p)
	}
	for _, p := range plan.ended {
		c.control.recorder.Event(r.ds, corev1.EventTypeNormal, "SucceededDaemonPod",
			"Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, targetOf(p))
		plan.remove = append(plan.remove, p)
	}
	c.failures.GC()
	var pods []*corev1.Pod
	for _, node := range plan.create[:min(len(plan.create), daemonBurst)] {
		pods = append(pods, daemonPod(r.ds, node, r.hash))
	}
	_, err = c.control.create(ctx, r.ds, pods)
	removed := c.control.remove(ctx, r.ds, plan.remove[:min(len(plan.remove), daemonBurst)])
	return again, errors.Join(err, removed)
}

// truncate keeps the revisions that pods were made from.
func (c *daemonSets) truncate(ctx context.Context, r *daemonRound, history []*appsv1.ControllerRevision, update *appsv1.ControllerRevision) error {
	hashes := map[string]bool{}
	for _, pods := range r.on {
		for _, p := range pods {
			hashes[revisionLabel(p)] = true
		}
	}
	used := map[string]bool{update.Name: true}
	for _, rev := range history {
		if hashes[rev.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] {
			used[rev.Name] = true
		}
	}
	return c.revisions.truncate(ctx, history, used, r.ds.Spec.RevisionHistoryLimit)
}

func (c *daemonSets) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, status appsv1.DaemonSetStatus) error {
	if equality.Semantic.DeepEqual(ds.Status, status) {
		return nil
	}
	changed := ds.DeepCopy()
	changed.Status = status
	return c.written.writeStatus(ctx, c.client, api.DaemonSets.KeyOf(ds), changed)
}
