package registry

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// sweepers is how many Events are deleted at the same time: the store syncs the
// disk once for all that wait, so that a burst of them is gone in a moment.
const sweepers = 16

// sweeps are the moments at which Events were looked at, the oldest first. What
// was written after one of them need not be looked at, and decoded, before the
// TTL is over. It belongs to the goroutine that sweeps.
type sweeps []sweep

type sweep struct {
	at       time.Time
	revision uint64
}

// begin notes a sweep and returns the revision up to which Events may have
// expired.
func (s *sweeps) begin(now sweep, ttl time.Duration) (upTo uint64) {
	if len(*s) == 0 {
		upTo = now.revision
	} else {
		upTo = (*s)[0].revision
	}
	gone := 0
	for i, old := range *s {
		if now.at.Sub(old.at) >= ttl {
			upTo, gone = old.revision, i
		}
	}
	*s = append((*s)[gone:], now)
	return upTo
}

// expireEvents deletes Events whose last sighting is longer ago than the TTL.
func (r *Registry) expireEvents(ctx context.Context) error {
	k, err := r.kindOf(api.Events.Key("", ""))
	if err != nil {
		return err
	}
	page, err := r.store.List(ctx, storePrefix(api.Events.Key("", "")), store.ListOptions{})
	if err != nil {
		return err
	}
	now := r.now()
	upTo := r.sweeps.begin(sweep{now, page.Revision}, r.eventTTL)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(sweepers)
	for _, entry := range page.Entries {
		if entry.Revision > upTo {
			continue
		}
		obj, err := r.decode(k, entry)
		if err != nil {
			return err
		}
		event, ok := obj.(*corev1.Event)
		if !ok {
			continue
		}
		_, seen := kinds.EventSeen(event)
		if seen.Before(&event.CreationTimestamp) {
			seen = event.CreationTimestamp
		}
		if now.Sub(seen.Time) <= r.eventTTL {
			continue
		}
		group.Go(func() error {
			revision, uid := event.ResourceVersion, event.UID
			_, err := r.Delete(ctx, api.Events.KeyOf(event), api.DeleteOptions{UID: &uid, ResourceVersion: &revision})
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}
