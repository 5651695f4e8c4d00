package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

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
	written     latest
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
	c.deployments.OnChange(func(_, new api.Object) {
		if new != nil {
			c.loop.Enqueue(api.Deployments.KeyOf(new))
		}
	})
	c.sets.OnChange(c.setChanged)
	c.pods.OnChange(c.podChanged)
	return c.loop
}

func (c *deployments) setChanged(old, new api.Object) {
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
	claimed, err := c.owners.claim(ctx, seen, selector)
	if err != nil {
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
