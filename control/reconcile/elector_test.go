package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

var leaderLease = api.Leases.Key("kube-system", "leader")

// cutOff is a client whose connection can be lost.
type cutOff struct {
	api.Client
	lost atomic.Bool
}

var errCut = errors.New("connection lost")

func (c *cutOff) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	if c.lost.Load() {
		return nil, errCut
	}
	return c.Client.Get(ctx, key, opts)
}

func (c *cutOff) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	if c.lost.Load() {
		return nil, errCut
	}
	return c.Client.Update(ctx, key, obj, opts)
}

// race is electors over one store that note who leads.
type race struct {
	t       *testing.T
	reg     *registry.Registry
	leading map[string]bool
	mu      sync.Mutex
	most    int // that led at the same time
}

func inRace(t *testing.T, f func(context.Context, *race)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		types, err := api.NewTypes()
		if err != nil {
			t.Fatal(err)
		}
		s := store.New(store.NewMemory(), store.Options{})
		work.Go(func() { _ = s.Run(ctx) })
		r := &race{t: t, leading: map[string]bool{}}
		if r.reg, err = registry.New(registry.Config{Store: s, Types: types}); err == nil {
			err = r.reg.Bootstrap(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		f(ctx, r)
	})
}

// enter starts an elector. Ending its context is a clean end.
func (r *race) enter(ctx context.Context, client api.Client, name string, change ...func(*reconcile.Elector)) (leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	e := &reconcile.Elector{Client: client, Lease: leaderLease, Identity: name}
	e.Lead = func(ctx context.Context) error {
		r.set(name, true)
		<-ctx.Done()
		r.set(name, false)
		return nil
	}
	for _, c := range change {
		c(e)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			r.t.Errorf("%s: %v", name, err)
		}
	}()
	return func() { cancel(); <-done }
}

func (r *race) set(name string, leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leading[name] = leads
	n := 0
	for _, leads := range r.leading {
		if leads {
			n++
		}
	}
	r.most = max(r.most, n)
}

func (r *race) leader() (names string) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, leads := range r.leading {
		if leads {
			names += name
		}
	}
	return names
}

func TestOneLeads(t *testing.T) {
	inRace(t, func(ctx context.Context, r *race) {
		leaveA := r.enter(ctx, r.reg, "a")
		if got := r.leader(); got != "a" {
			t.Fatalf("%q leads at once", got)
		}
		leaveB := r.enter(ctx, r.reg, "b")
		time.Sleep(time.Minute)
		if got := r.leader(); got != "a" {
			t.Errorf("%q leads", got)
		}
		leaveA() // gives the lease back
		time.Sleep(4 * time.Second)
		if got := r.leader(); got != "b" {
			t.Errorf("%q leads after a clean end", got)
		}
		leaveB()
		if r.most != 1 {
			t.Errorf("%d led at the same time", r.most)
		}
		lease, err := api.Get[*coordinationv1.Lease](ctx, r.reg, leaderLease)
		if err != nil || *lease.Spec.LeaseTransitions != 1 || *lease.Spec.HolderIdentity != "" {
			t.Errorf("lease %+v, %v", lease.Spec, err)
		}
	})
}

// Who cannot renew stops before another one may begin.
func TestLossOfTheLeaseStops(t *testing.T) {
	inRace(t, func(ctx context.Context, r *race) {
		wire := &cutOff{Client: r.reg}
		leaveA := r.enter(ctx, wire, "a")
		if got := r.leader(); got != "a" {
			t.Fatalf("%q leads at once", got)
		}
		leaveB := r.enter(ctx, r.reg, "b")
		r.leader()
		time.Sleep(5 * time.Second)
		wire.lost.Store(true)
		time.Sleep(11 * time.Second)
		if got := r.leader(); got != "" {
			t.Errorf("%q leads without a lease", got)
		}
		time.Sleep(10 * time.Second)
		if got := r.leader(); got != "b" {
			t.Errorf("%q leads after the lease has run out", got)
		}
		wire.lost.Store(false)
		time.Sleep(time.Minute)
		if got := r.leader(); got != "b" || r.most != 1 {
			t.Errorf("%q leads in the end, %d at the same time", got, r.most)
		}
		leaveA()
		leaveB()
	})
}

// Who sees that another one has the lease stops at once, not at the deadline.
func TestTakenLeaseStops(t *testing.T) {
	inRace(t, func(ctx context.Context, r *race) {
		leave := r.enter(ctx, r.reg, "a")
		r.leader()
		lease, err := api.Get[*coordinationv1.Lease](ctx, r.reg, leaderLease)
		if err != nil {
			t.Fatal(err)
		}
		lease = lease.DeepCopy()
		lease.Spec.HolderIdentity = new("thief")
		if _, err := r.reg.Update(ctx, leaderLease, lease, api.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if got := r.leader(); got != "" {
			t.Errorf("%q leads", got)
		}
		leave()
	})
}

// A process that has the store for itself does not wait for one that was killed.
func TestAloneLeadsAtOnce(t *testing.T) {
	inRace(t, func(ctx context.Context, r *race) {
		held := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: new("killed"), LeaseDurationSeconds: new(int32(15))}}
		held.Namespace, held.Name = leaderLease.Namespace, leaderLease.Name
		if _, err := r.reg.Create(ctx, leaderLease, held, api.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		leave := r.enter(ctx, r.reg, "a", func(e *reconcile.Elector) { e.Alone = true })
		if got := r.leader(); got != "a" {
			t.Errorf("%q leads", got)
		}
		leave()
	})
}

func TestElectorEndsWithWhatItLeads(t *testing.T) {
	inRace(t, func(ctx context.Context, r *race) {
		for i, want := range []string{"broken", "ended unexpectedly"} {
			e := &reconcile.Elector{Client: r.reg, Lease: leaderLease, Identity: fmt.Sprint(i), Lead: func(context.Context) error {
				if want == "broken" {
					return errors.New(want)
				}
				return nil
			}}
			if err := e.Run(ctx); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
}
