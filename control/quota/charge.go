package quota

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// taking is a quota and what a batch takes of it.
type taking struct {
	quota  *corev1.ResourceQuota
	used   corev1.ResourceList // after the batch
	shares map[*Charge]corev1.ResourceList
}

// decide charges a batch or refuses its members one by one, in their order, and
// writes each quota once. The caller has the turn.
func (l *Ledger) decide(ctx context.Context, client api.Client, namespace string, r *room, batch []*Charge) {
	for range chargeTries {
		quotas, err := quotasIn(ctx, client, namespace)
		if err != nil {
			failAll(batch, err)
			return
		}
		lost := false
		for _, t := range l.plan(quotas, batch) {
			if len(t.shares) == 0 {
				continue
			}
			err := l.write(ctx, client, r, t, nil)
			switch {
			case conflict(err):
				lost = true
			case err != nil:
				l.tell(namespace, map[string]corev1.ResourceList{t.quota.Name: nil}) // it may have been written
				for c := range t.shares {
					c.err = fmt.Errorf("charge the quota %s: %w", t.quota.Name, err)
				}
			default:
				l.hold(t)
			}
		}
		if !lost {
			return
		}
	}
	failAll(batch, apierrors.NewTooManyRequests(errBusy.Error(), 1))
}

func failAll(batch []*Charge, err error) {
	for _, c := range batch {
		if c.err == nil {
			c.err = err
		}
	}
}

// plan judges the batch by the quotas as they are. What a member holds already
// of a quota is in its used.
func (l *Ledger) plan(quotas []*corev1.ResourceQuota, batch []*Charge) []taking {
	out := make([]taking, len(quotas))
	for i, q := range quotas {
		out[i] = taking{q, q.Status.Used, map[*Charge]corev1.ResourceList{}}
	}
	for _, c := range batch {
		shares := make([]corev1.ResourceList, len(out))
		for i := range out {
			if _, holds := c.held[out[i].quota.Name]; holds || c.err != nil {
				continue
			}
			shares[i], c.err = c.write.check(out[i].quota, out[i].used, l.now())
		}
		for i, share := range shares {
			if c.err == nil && len(share) > 0 {
				out[i].shares[c] = share
				out[i].used = Add(out[i].used, share)
			}
		}
	}
	return out
}

// hold notes that a quota was charged.
func (l *Ledger) hold(t taking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, share := range t.shares {
		c.held[t.quota.Name] = share
	}
}

// write stores what is used of a quota, unless somebody has changed it: after a
// batch, or without a charge that is taken back.
func (l *Ledger) write(ctx context.Context, client api.Client, r *room, t taking, without *Charge) error {
	q := t.quota
	changed := q.DeepCopy()
	changed.Status.Used = t.used
	l.note(changed, r, t.shares, without)
	stored, err := client.Update(ctx, api.ResourceQuotas.KeyOf(q), changed, api.UpdateOptions{Subresource: "status", FieldManager: manager})
	if err != nil {
		return err
	}
	r.wrote[q.Name] = stored.GetResourceVersion()
	return nil
}

// release takes a charge back. A quota that somebody else has written since may
// have been counted without the charge: it is only counted anew. The caller has
// the turn.
func (l *Ledger) release(ctx context.Context, namespace string, r *room, c *Charge) {
	uncertain := map[string]corev1.ResourceList{}
	for name, share := range c.held {
		q, err := api.Get[*corev1.ResourceQuota](ctx, c.client, api.ResourceQuotas.Key(namespace, name))
		if err == nil && q.ResourceVersion == r.wrote[name] {
			used := Add(Subtract(mask(q.Status.Used, share), share), without(q.Status.Used, share))
			err = l.write(ctx, c.client, r, taking{quota: q, used: used}, c)
			if err == nil {
				continue
			}
		}
		uncertain[name] = share
	}
	l.forget(namespace, c)
	l.tell(namespace, uncertain)
}

// without returns what of a list has none of the names of another one.
func without(list, names corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range list {
		if _, ok := names[name]; !ok {
			out[name] = q
		}
	}
	return out
}
