package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// sweepEvery is how often the registry cleans up.
const sweepEvery = time.Minute

// Run serves the kinds that CustomResourceDefinitions define, as they come and
// go, and cleans up, until ctx ends, which is no error: Events past their time,
// allocations that no Service has, and objects of the cluster itself that
// somebody has deleted, which it creates again. It may run in each of the
// processes that share a store.
func (r *Registry) Run(ctx context.Context) error {
	if err := r.store.WaitReady(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("registry: wait for the store: %w", err)
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { r.definitions.follow(ctx) })
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("clean-up failed, it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep cleans up once: see Run.
func (r *Registry) Sweep(ctx context.Context) error {
	return errors.Join(r.ensureBasics(ctx), r.ensureFlows(ctx), r.expireEvents(ctx), r.recordServices(ctx), r.ips.repair(ctx), r.reseal(ctx))
}

// recordServices restores records that services should have and have not, for
// instance from a store that was written before.
func (r *Registry) recordServices(ctx context.Context) error {
	list, err := r.List(ctx, api.Services.Key("", ""), api.ListOptions{})
	if err != nil {
		return err
	}
	for _, obj := range list.Items {
		s, ok := obj.(*corev1.Service)
		if !ok || s.DeletionTimestamp != nil {
			continue
		}
		h := holder{Namespace: s.Namespace, Name: s.Name, UID: string(s.UID)}
		var wanted []string
		for _, addr := range kinds.ClusterIPs(s) {
			wanted = append(wanted, ipRecord(addr))
		}
		for port := range nodePortsOf(s) {
			wanted = append(wanted, portRecord(port))
		}
		for _, what := range wanted {
			if !r.ips.free(ctx, what) {
				continue
			}
			revision, err := r.ips.take(ctx, what, h)
			if err != nil && !errors.Is(err, errTaken) {
				return err
			}
			// The service may have been deleted meanwhile.
			if _, _, err := r.load(ctx, r.served.find("", "services"), api.Services.KeyOf(s)); errors.Is(err, store.ErrNotFound) {
				r.ips.release(ctx, what, revision)
			}
		}
	}
	return nil
}
