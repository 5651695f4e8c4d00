package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/quota"
	"wherry.dev/wherry/control/reconcile"
)

const (
	// quotaResync is how often quotas are counted although nothing has happened,
	// as in Kubernetes.
	quotaResync = 5 * time.Minute
	// quotaVerify is how soon after a charge a quota is counted: what was charged
	// by a process that has ended since is found then.
	quotaVerify = 2 * time.Second
	// quotaRest is how many times as long as it took to count a quota it is left
	// alone after that, so that counting takes a small part of the time
	// however many objects there are.
	quotaRest     = 9
	quotaRestMost = 5 * time.Second
)

// quotas keeps the status of ResourceQuotas: what is allowed, and what the
// objects of the namespace use. Admission adds to it what is created; what goes
// is found here (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
type quotas struct {
	cfg    Config
	loop   *reconcile.Loop
	quotas *reconcile.Informer
	meters []metered
	gone   departed // which charges that other servers have noted are settled
}

// metered is a kind that quotas can bound.
type metered struct {
	resource api.Resource
	meter    quota.Meter
}

func newQuotas(cfg Config) runner {
	c := &quotas{cfg: cfg, quotas: cfg.Informers.For(api.ResourceQuotas)}
	c.loop = cfg.loop("resource-quota", 4, c)
	c.quotas.OnChange(func(old, new api.Object) {
		if new == nil {
			return
		}
		before, _ := old.(*corev1.ResourceQuota)
		after := new.(*corev1.ResourceQuota)
		if before == nil || !equality.Semantic.DeepEqual(before.Spec, after.Spec) {
			c.loop.Enqueue(api.ResourceQuotas.KeyOf(new))
		} else if !equality.Semantic.DeepEqual(before.Status, after.Status) {
			c.loop.EnqueueAfter(api.ResourceQuotas.KeyOf(new), quotaVerify)
		}
	})
	for _, r := range cfg.Resources {
		if !r.Namespaced || !r.Can("list", "watch") || !r.Hub.Empty() || !quota.Counts(r.GroupResource()) {
			continue
		}
		m := metered{r, quota.MeterOf(r.GroupResource())}
		c.meters = append(c.meters, m)
		cfg.Informers.For(r).OnChange(func(old, new api.Object) { c.changed(m, old, new) })
	}
	return c
}

// Run keeps the quotas counted until ctx ends.
func (c *quotas) Run(ctx context.Context) error {
	defer c.cfg.Quotas.OnRelease(c.loop.Enqueue)()
	return c.loop.Run(ctx)
}

// changed queues the quotas of which a change gives something back.
func (c *quotas) changed(m metered, old, new api.Object) {
	if old == nil || new != nil && !m.meter.Changes() {
		return
	}
	bound := reconcile.As[*corev1.ResourceQuota](c.quotas.List(old.GetNamespace()))
	if len(bound) == 0 {
		return
	}
	var due time.Duration
	if new == nil {
		c.gone.add(old.GetUID(), c.cfg.Clock(), quota.NoteLife)
	} else {
		now := c.cfg.Clock()
		pod, isPod := new.(*corev1.Pod)
		left, ending := time.Duration(0), false
		if isPod {
			left, ending = quota.GraceLeft(pod, now)
		}
		switch {
		case !quota.Equal(m.meter.Usage(old, now), m.meter.Usage(new, now)):
		case ending && left > 0 && old.GetDeletionTimestamp() == nil:
			due = left // it does not count any more from then on
		default:
			return
		}
	}
	for _, q := range bound {
		if m.meter.CoversAny(q.Spec.Hard) {
			c.loop.EnqueueAfter(api.ResourceQuotas.KeyOf(q), due)
		}
	}
}

// Reconcile counts one quota.
func (c *quotas) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	again := quotaResync
	begun := c.cfg.Clock()
	err := c.cfg.Quotas.Recount(ctx, key, func(pending []quota.Pending) (*corev1.ResourceQuota, error) {
		for _, p := range pending {
			if !p.Until.IsZero() {
				again = min(again, max(p.Until.Sub(begun), time.Second))
			}
		}
		return c.recount(ctx, key, pending, &again)
	})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count what is used of %s: %w", key, err)
	}
	rest := time.NewTimer(min(quotaRest*c.cfg.Clock().Sub(begun), quotaRestMost))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
	}
	return again, nil
}

// recount writes what a quota allows and what is used of it. It lowers again to
// when something that is pending now will not be any more.
func (c *quotas) recount(ctx context.Context, key api.Key, pending []quota.Pending, again *time.Duration) (*corev1.ResourceQuota, error) {
	q, err := api.Get[*corev1.ResourceQuota](ctx, c.cfg.Client, key)
	if err != nil {
		return nil, err
	}
	// What is gone was stored, and is counted by nobody any more.
	others := slices.DeleteFunc(c.cfg.Quotas.Others(q), func(p quota.Pending) bool { return c.gone.knows(p.UID) })
	for _, p := range others {
		*again = min(*again, max(p.Until.Sub(c.cfg.Clock()), time.Second))
	}
	used, err := c.used(ctx, q, append(pending, others...))
	if err != nil {
		return nil, err
	}
	changed := q.DeepCopy()
	pruned := quota.Prune(changed, c.cfg.Clock())
	if q.Status.Used != nil && quota.Equal(q.Status.Hard, q.Spec.Hard) && quota.Equal(q.Status.Used, used) && !pruned {
		return nil, nil
	}
	changed.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: used}
	stored, err := c.cfg.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"})
	if err != nil {
		return nil, err
	}
	return stored.(*corev1.ResourceQuota), nil
}

// used is what the objects of a namespace use of what a quota bounds, and what
// is about to be stored.
func (c *quotas) used(ctx context.Context, q *corev1.ResourceQuota, pending []quota.Pending) (corev1.ResourceList, error) {
	used := corev1.ResourceList{}
	versions := map[types.UID]string{}
	now := c.cfg.Clock()
	for _, m := range c.meters {
		if !m.meter.CoversAny(q.Spec.Hard) {
			continue
		}
		for name := range q.Spec.Hard {
			if m.meter.Covers(name) {
				used[name] = resource.Quantity{Format: resource.DecimalSI}
			}
		}
		list, err := c.cfg.Client.List(ctx, m.resource.Key(q.Namespace, ""), api.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, obj := range list.Items {
			if len(pending) > 0 {
				versions[obj.GetUID()] = obj.GetResourceVersion()
			}
			if m.meter.InScopes(&q.Spec, obj) {
				quota.AddTo(used, m.meter.Usage(obj, now))
			}
		}
	}
	for _, p := range pending {
		// What is stored by now has been counted.
		if version, there := versions[p.UID]; there == (p.Before != "") && version == p.Before {
			quota.AddTo(used, p.Held)
		}
	}
	return used, nil
}
