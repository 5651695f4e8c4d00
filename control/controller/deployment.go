package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// deployments rolls the ReplicaSets of Deployments.
type deployments struct {
	client      api.Client
	deployments *reconcile.Informer
	sets        *reconcile.Informer
	pods        *reconcile.Informer
	owners      owners
	recorder    *reconcile.Recorder
	now         func() time.Time
	loop        *reconcile.Loop
	written     latest // Deployments
	resized     latest // ReplicaSets: what one step has done the next one must know
	made        made
}

// made are the names of ReplicaSets that were created, or may have been, and
// that the informer has not shown, by Deployment. Without them a change of
// mind right after a creation would not know all pods that are coming. The
// zero value is ready.
type made struct {
	mu    sync.Mutex
	names map[types.UID]map[string]bool
}

func (m *made) add(d types.UID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names == nil {
		m.names = map[types.UID]map[string]bool{}
	}
	if m.names[d] == nil {
		m.names[d] = map[string]bool{}
	}
	m.names[d][name] = true
}

// seen forgets one name.
func (m *made) seen(d types.UID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.names[d], name)
	if len(m.names[d]) == 0 {
		delete(m.names, d)
	}
}

func (m *made) of(d types.UID) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.names[d]))
}

func newDeployments(cfg Config) runner {
	c := &deployments{
		client:      cfg.Client,
		deployments: cfg.Informers.For(api.Deployments),
		sets:        cfg.Informers.For(api.ReplicaSets),
		pods:        cfg.Informers.For(api.Pods),
		recorder:    cfg.Recorder.For("deployment-controller"),
		now:         cfg.Clock,
	}
	c.owners = owners{client: cfg.Client, owner: api.Deployments, owned: api.ReplicaSets, objects: c.sets}
	c.loop = cfg.loop("deployment", 8, c)
	indexOwners(c.sets)
	indexOwners(c.pods)
	c.deployments.OnChange(func(old, new api.Object) {
		if new != nil {
			c.loop.Enqueue(api.Deployments.KeyOf(new))
			return
		}
		for _, name := range c.made.of(old.GetUID()) {
			c.made.seen(old.GetUID(), name)
		}
	})
	c.sets.OnChange(c.setChanged)
	c.pods.OnChange(c.podChanged)
	return c.loop
}

func (c *deployments) setChanged(old, new api.Object) {
	if new == nil {
		c.resized.forget(api.ReplicaSets.KeyOf(old))
	}
	for _, rs := range []api.Object{old, new} {
		if rs == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(rs); isKind(ref, api.Deployments) {
			c.loop.Enqueue(api.Deployments.Key(rs.GetNamespace(), ref.Name))
		}
	}
	if new == nil || metav1.GetControllerOfNoCopy(new) != nil {
		return
	}
	for _, d := range reconcile.As[*appsv1.Deployment](c.deployments.List(new.GetNamespace())) {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(new.GetLabels())) {
			c.loop.Enqueue(api.Deployments.KeyOf(d))
		}
	}
}

// podChanged wakes a Recreate Deployment, which waits for its last old pod.
func (c *deployments) podChanged(old, new api.Object) {
	pod, ok := old.(*corev1.Pod)
	if after, isPod := new.(*corev1.Pod); !ok || (isPod && !podFinished(after)) {
		return
	}
	ref := metav1.GetControllerOfNoCopy(pod)
	if !isKind(ref, api.ReplicaSets) {
		return
	}
	rs, ok := c.sets.Get(api.ReplicaSets.Key(pod.Namespace, ref.Name))
	if !ok {
		return
	}
	owner := metav1.GetControllerOfNoCopy(rs)
	if !isKind(owner, api.Deployments) {
		return
	}
	key := api.Deployments.Key(pod.Namespace, owner.Name)
	if obj, ok := c.deployments.Get(key); ok {
		if d, ok := obj.(*appsv1.Deployment); ok && !isRolling(d) {
			c.loop.Enqueue(key)
		}
	}
}

// unseen are the Deployment's ReplicaSets that the informer has not shown yet.
func (c *deployments) unseen(ctx context.Context, d *appsv1.Deployment) ([]api.Object, error) {
	var out []api.Object
	for _, name := range c.made.of(d.UID) {
		key := api.ReplicaSets.Key(d.Namespace, name)
		if _, ok := c.sets.Get(key); ok {
			c.made.seen(d.UID, name)
			continue
		}
		rs, err := api.Get[*appsv1.ReplicaSet](ctx, c.client, key)
		switch {
		case apierrors.IsNotFound(err):
			c.made.seen(d.UID, name)
		case err != nil:
			return nil, fmt.Errorf("look for %s, which may have been created: %w", key, err)
		case metav1.IsControlledBy(rs, d):
			out = append(out, rs)
		}
	}
	return out, nil
}

// newest are the ReplicaSets as this loop has left them. One whose resizing got
// no answer is read from the API: the sizes of all others depend on it, and a
// change of mind may come before the same resizing is tried again.
func (c *deployments) newest(ctx context.Context, sets []api.Object) ([]api.Object, error) {
	out := make([]api.Object, 0, len(sets))
	for _, rs := range sets {
		key := api.ReplicaSets.KeyOf(rs)
		if c.resized.doubtful(key) {
			now, err := c.client.Get(ctx, key, api.GetOptions{})
			if apierrors.IsNotFound(err) {
				c.resized.forget(key)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("look for %s, which may have been resized: %w", key, err)
			}
			c.resized.add(key, now)
		}
		out = append(out, c.resized.of(key, rs))
	}
	return out, nil
}

// Reconcile implements reconcile.Reconciler.
func (c *deployments) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := c.deployments.Get(key)
	obj = c.written.of(key, obj)
	if !ok {
		return 0, nil
	}
	seen, ok := obj.(*appsv1.Deployment)
	if !ok {
		return 0, fmt.Errorf("%s is a %T", key, obj)
	}
	selector, err := metav1.LabelSelectorAsSelector(seen.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	r := &rollout{deployments: c, ctx: ctx, d: seen.DeepCopy(), seen: seen, now: c.now()}
	if selector.Empty() {
		c.recorder.Event(seen, corev1.EventTypeWarning, "SelectingAll",
			"This deployment is selecting all pods. A non-empty selector is required.")
		r.d.Status.ObservedGeneration = seen.Generation
		return 0, r.write(r.d.Status)
	}
	unseen, err := c.unseen(ctx, seen)
	if err != nil {
		return 0, err
	}
	claimed, err := c.owners.claim(ctx, seen, selector)
	if err != nil {
		return 0, err
	}
	for _, rs := range unseen { // if it is unseen still
		if !slices.ContainsFunc(claimed, func(c api.Object) bool { return c.GetUID() == rs.GetUID() }) {
			claimed = append(claimed, rs)
		}
	}
	if claimed, err = c.newest(ctx, claimed); err != nil {
		return 0, err
	}
	r.history = historyOf(seen, reconcile.As[*appsv1.ReplicaSet](claimed))
	if err := r.step(); err != nil {
		// What was learned is worth writing even so: a ReplicaSet that cannot
		// be created shows in the conditions.
		return 0, errors.Join(err, r.write(r.d.Status))
	}
	status := r.status()
	again := deadlineIn(r.d, &status, r.now)
	return again, r.write(status)
}
