package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// Times of an election; those of Kubernetes' components.
const (
	leaseDuration = 15 * time.Second // how long others wait for a holder that is silent
	renewDeadline = 10 * time.Second // how long a holder may fail to renew before it stops
	retryPeriod   = 2 * time.Second  // between attempts
)

// Elector lets one of several processes lead: the one that holds a Lease. The
// clocks of the processes are not compared: a holder is silent when its Lease
// has not changed for a while by the clock of whoever looks.
type Elector struct {
	Client   api.Client
	Lease    api.Key // of the Lease
	Identity string  // of this process, another one at each start
	// Alone says that no other process can use the store, so that whoever holds
	// the Lease is dead: nothing is waited for.
	Alone bool
	// Lead runs while this process leads. Its context ends when the lease is
	// lost; it must return soon after. It is called anew each time.
	Lead     func(ctx context.Context) error
	Recorder *Recorder    // nil: no Events
	Log      *slog.Logger // nil: no logs

	seen     string // the holder's last state
	seenAt   time.Time
	renewing *coordinationv1.Lease // as this process wrote it last
}

// Run takes part until ctx ends or Lead fails, and gives the Lease back. It can
// be called once.
func (e *Elector) Run(ctx context.Context) error {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	for ctx.Err() == nil {
		won, err := e.acquire(ctx)
		if err != nil && ctx.Err() == nil {
			e.Log.Warn("election: the lease cannot be had, will try again", "lease", e.Lease.String(), "error", err)
		}
		if !won {
			pause(ctx, retryPeriod+rand.N(retryPeriod/5))
			continue
		}
		if err := e.lead(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lead runs Lead until the lease is lost or ctx ends.
func (e *Elector) lead(ctx context.Context) error {
	e.Log.Info("election: leading", "lease", e.Lease.String(), "identity", e.Identity)
	if e.Recorder != nil {
		e.Recorder.Event(e.renewing, corev1.EventTypeNormal, "LeaderElection", "%s became leader", e.Identity)
	}
	leading, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- e.Lead(leading) }()
	lost := e.keep(leading, done)
	stop()
	if lost != nil {
		e.Log.Warn("election: the lease is lost, stopping what it allows", "lease", e.Lease.String(), "error", lost)
		<-done
		return nil
	}
	err := <-done
	e.release(context.WithoutCancel(ctx))
	if ctx.Err() == nil && err == nil {
		err = errors.New("ended unexpectedly")
	}
	return err
}

// keep renews the lease until it is lost, which it returns, or until there is
// no more need for it: nil. done is left to its reader.
func (e *Elector) keep(ctx context.Context, done chan error) error {
	last := time.Now()
	for {
		timer := time.NewTimer(retryPeriod)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case err := <-done:
			timer.Stop()
			done <- err
			return nil
		case <-timer.C:
		}
		attempt, cancel := context.WithDeadline(ctx, last.Add(renewDeadline))
		err := e.renew(attempt)
		cancel()
		switch {
		case err == nil:
			last = time.Now()
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errTaken) || time.Since(last) >= renewDeadline:
			return err
		default:
			e.Log.Debug("election: not renewed, will try again", "error", err)
		}
	}
}

// errTaken: another process holds the lease.
var errTaken = errors.New("another process holds the lease")

// acquire takes the Lease when it is free, or its holder has been silent for
// too long.
func (e *Elector) acquire(ctx context.Context) (bool, error) {
	kept, err := api.Get[*coordinationv1.Lease](ctx, e.Client, e.Lease)
	if apierrors.IsNotFound(err) {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: e.Lease.Namespace, Name: e.Lease.Name}}
		e.hold(lease, true)
		obj, err := e.Client.Create(ctx, e.Lease, lease, api.CreateOptions{})
		return e.won(obj, err)
	}
	if err != nil {
		return false, err
	}
	if state := fmt.Sprint(holder(kept), kept.Spec.RenewTime); state != e.seen {
		e.seen, e.seenAt = state, time.Now()
	}
	if !e.Alone && holder(kept) != "" && holder(kept) != e.Identity && time.Since(e.seenAt) < duration(kept) {
		return false, nil
	}
	next := kept.DeepCopy()
	e.hold(next, holder(kept) != e.Identity)
	obj, err := e.Client.Update(ctx, e.Lease, next, api.UpdateOptions{})
	return e.won(obj, err)
}

// won tells the outcome of a write; that somebody else was faster is none of
// the bad ones.
func (e *Elector) won(obj api.Object, err error) (bool, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lease, ok := obj.(*coordinationv1.Lease)
	if !ok {
		return false, fmt.Errorf("the lease is a %T", obj)
	}
	e.renewing = lease
	return true, nil
}

// renew writes a sign of life. When somebody has changed the Lease meanwhile,
// it is read again.
func (e *Elector) renew(ctx context.Context) error {
	next := e.renewing.DeepCopy()
	e.hold(next, false)
	obj, err := e.Client.Update(ctx, e.Lease, next, api.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		kept, getErr := api.Get[*coordinationv1.Lease](ctx, e.Client, e.Lease)
		switch {
		case apierrors.IsNotFound(getErr):
			return fmt.Errorf("%w: it was deleted", errTaken)
		case getErr != nil:
			return getErr
		case holder(kept) != e.Identity:
			return fmt.Errorf("%w: %s", errTaken, holder(kept))
		}
		e.renewing = kept
		return err
	}
	_, err = e.won(obj, err)
	return err
}

// release gives the Lease back, so that the next one need not wait.
func (e *Elector) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, retryPeriod)
	defer cancel()
	next := e.renewing.DeepCopy()
	next.Spec.HolderIdentity = new("")
	next.Spec.LeaseDurationSeconds = new(int32(1))
	if _, err := e.Client.Update(ctx, e.Lease, next, api.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		e.Log.Debug("election: the lease was not given back, others wait for its end", "error", err)
	}
}

func (e *Elector) hold(lease *coordinationv1.Lease, anew bool) {
	now := metav1.NowMicro()
	s := &lease.Spec
	s.HolderIdentity, s.LeaseDurationSeconds, s.RenewTime = &e.Identity, new(int32(leaseDuration/time.Second)), &now
	if anew {
		s.AcquireTime = &now
		if s.LeaseTransitions == nil {
			s.LeaseTransitions = new(int32(0))
		} else {
			s.LeaseTransitions = new(*s.LeaseTransitions + 1)
		}
	}
}

func holder(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func duration(lease *coordinationv1.Lease) time.Duration {
	if lease.Spec.LeaseDurationSeconds == nil {
		return leaseDuration
	}
	return time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
}
