package quota

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

const (
	// chargeTries bounds how often a charge meets other writers of its quotas.
	chargeTries = 20
	// chargeTime bounds the writes to quotas on behalf of a request.
	chargeTime = 30 * time.Second
	// doubtLife is how long a write with an unknown outcome counts as one that
	// may still be stored. No request lives longer.
	doubtLife = time.Minute
	// manager is the owner of what is charged, as in Kubernetes.
	manager = "kube-apiserver"
)

// Ledger charges writes to the quotas of their namespace. Of each namespace one
// goroutine at a time writes the quotas, for all that wait: a burst of
// creations costs a few updates of a quota, not one each.
//
// A charge is pending from before its quota is written until it is known
// whether its object was stored. Who counts the objects of the namespace
// anew adds what is pending and not among them, so that the count neither
// forgets an object that is about to be stored nor has it twice.
//
// The zero value is not usable; a Ledger is safe for concurrent use.
type Ledger struct {
	now     func() time.Time
	process string // among those over one store; empty: there is no other

	mu    sync.Mutex
	rooms map[string]*room
	told  map[int]func(api.Key) // listeners
	next  int
}

// room is what a Ledger knows of a namespace while somebody needs it.
type room struct {
	turn    chan struct{}     // has a token while somebody writes the namespace's quotas
	users   int               // those who are in here and charges that are pending; guarded by Ledger.mu
	waiting []*Charge         // guarded by Ledger.mu
	pending []*Charge         // guarded by Ledger.mu
	wrote   map[string]string // resourceVersions that this ledger gave quotas last; guarded by turn
}

// Charge is a write that was charged.
type Charge struct {
	write  Write
	client api.Client
	begun  time.Time
	done   chan struct{} // closed when err and held are final
	err    error
	held   map[string]corev1.ResourceList // by the name of the quota
	until  time.Time                      // the end of doubt; zero: none
}

// NewLedger makes a Ledger. A nil clock is time.Now.
func NewLedger(now func() time.Time) *Ledger {
	if now == nil {
		now = time.Now
	}
	return &Ledger{now: now, rooms: map[string]*room{}, told: map[int]func(api.Key){}}
}

// NewShared makes a Ledger for one of several processes over one store, each of
// which has a name of its own: it notes in the quotas what is pending, for
// whoever counts.
func NewShared(now func() time.Time, process string) *Ledger {
	l := NewLedger(now)
	l.process = process
	return l
}

// OnRelease adds a function that is told which quota has to be counted anew,
// because a charge to it came to nothing. It must not block. The returned
// function takes it away again.
func (l *Ledger) OnRelease(f func(api.Key)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.next
	l.told[at], l.next = f, at+1
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.told, at)
	}
}

// Check tells whether a write would be let pass now, and charges nothing.
func (l *Ledger) Check(ctx context.Context, client api.Client, w Write) error {
	quotas, err := quotasIn(ctx, client, w.Object.GetNamespace())
	if err != nil {
		return err
	}
	for _, q := range quotas {
		if _, err := w.check(q, q.Status.Used, l.now()); err != nil {
			return err
		}
	}
	return nil
}

// Charge charges a write to the quotas that are about it. client writes them
// as the server. nil without an error means that there are none; a *Refused
// that one of them has no room. Whoever gets a Charge settles it.
func (l *Ledger) Charge(ctx context.Context, client api.Client, w Write) (*Charge, error) {
	namespace := w.Object.GetNamespace()
	quotas, err := quotasIn(ctx, client, namespace)
	if err != nil || !slices.ContainsFunc(quotas, w.concerns) {
		return nil, err
	}
	c := &Charge{write: w, client: client, begun: l.now(), done: make(chan struct{}), held: map[string]corev1.ResourceList{}}
	r := l.enter(namespace, c)
	defer l.leave(namespace, r)
	select {
	case <-c.done:
	case r.turn <- struct{}{}:
		l.serve(ctx, client, namespace, r)
		<-r.turn
	case <-ctx.Done():
		if l.withdraw(r, c) {
			return nil, ctx.Err()
		}
		<-c.done // somebody is at it
	}
	if c.err != nil {
		return nil, c.err
	}
	if err := ctx.Err(); err != nil {
		l.Settle(ctx, c, api.NotStored)
		return nil, err
	}
	return c, nil
}

func quotasIn(ctx context.Context, client api.Client, namespace string) ([]*corev1.ResourceQuota, error) {
	list, err := client.List(ctx, api.ResourceQuotas.Key(namespace, ""), api.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return nil, err
	}
	quotas, err := api.Items[*corev1.ResourceQuota](list)
	slices.SortFunc(quotas, func(a, b *corev1.ResourceQuota) int { return strings.Compare(a.Name, b.Name) })
	return quotas, err
}

// enter opens the namespace's room; c, where there is one, waits in it.
func (l *Ledger) enter(namespace string, c *Charge) *room {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rooms[namespace]
	if r == nil {
		r = &room{turn: make(chan struct{}, 1), wrote: map[string]string{}}
		l.rooms[namespace] = r
	}
	r.users++
	if c != nil {
		r.waiting = append(r.waiting, c)
	}
	return r
}

// leave closes the room after its last user.
func (l *Ledger) leave(namespace string, r *room) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.users--; r.users == 0 {
		delete(l.rooms, namespace)
	}
}

// withdraw takes back a charge that nobody has looked at yet.
func (l *Ledger) withdraw(r *room, c *Charge) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(r.waiting, c)
	if i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	return i >= 0
}

// serve decides all that wait. The caller has the turn.
func (l *Ledger) serve(ctx context.Context, client api.Client, namespace string, r *room) {
	l.mu.Lock()
	batch := r.waiting
	r.waiting = nil
	r.pending = append(r.pending, batch...)
	r.users += len(batch)
	l.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	// The others' requests do not end with that of the one who serves them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chargeTime)
	defer cancel()
	l.decide(ctx, client, namespace, r, batch)
	for _, c := range batch {
		if c.err != nil {
			l.release(ctx, namespace, r, c)
		}
		close(c.done)
	}
}

// Settle says what became of a charged write: its object is counted from now
// on, or its charge is taken back, or it stays for as long as it may still be
// stored.
func (l *Ledger) Settle(ctx context.Context, c *Charge, outcome api.Outcome) {
	namespace := c.write.Object.GetNamespace()
	switch outcome {
	case api.InDoubt:
		l.mu.Lock()
		c.until = l.now().Add(doubtLife)
		l.mu.Unlock()
		l.tell(namespace, c.held)
	case api.Stored:
		l.forget(namespace, c)
	default:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chargeTime)
		defer cancel()
		r := l.enter(namespace, nil)
		defer l.leave(namespace, r)
		select {
		case r.turn <- struct{}{}:
			l.release(ctx, namespace, r, c)
			<-r.turn
		case <-ctx.Done():
			l.forget(namespace, c)
			l.tell(namespace, c.held)
		}
	}
}

// forget ends a charge's being pending.
func (l *Ledger) forget(namespace string, c *Charge) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rooms[namespace]
	if r == nil {
		return
	}
	i := slices.Index(r.pending, c)
	if i < 0 {
		return
	}
	r.pending = slices.Delete(r.pending, i, i+1)
	if r.users--; r.users == 0 {
		delete(l.rooms, namespace)
	}
}

// tell lets quotas be counted anew.
func (l *Ledger) tell(namespace string, held map[string]corev1.ResourceList) {
	l.mu.Lock()
	listeners := slices.Collect(maps.Values(l.told))
	l.mu.Unlock()
	for name := range held {
		for _, f := range listeners {
			f(api.ResourceQuotas.Key(namespace, name))
		}
	}
}

// Pending is a charge whose object may or may not be stored by now.
type Pending struct {
	UID types.UID
	// Before is the resourceVersion that the object had before the write; empty:
	// it is new.
	Before string
	Held   corev1.ResourceList
	Until  time.Time // zero: it will be settled
}

// Recount lets count find out what is used of a quota, and write it, while
// nothing is charged to the quotas of its namespace. pending has to be read
// before the objects are. count returns the quota as it has written it, nil
// if it had nothing to write.
func (l *Ledger) Recount(ctx context.Context, quota api.Key, count func(pending []Pending) (*corev1.ResourceQuota, error)) error {
	r := l.enter(quota.Namespace, nil)
	defer l.leave(quota.Namespace, r)
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	written, err := count(l.pendingOf(quota, r))
	if written != nil {
		r.wrote[written.Name] = written.ResourceVersion
	}
	return err
}

// pendingOf returns what is pending of a quota, and forgets what was in doubt
// for too long. The caller has the turn.
func (l *Ledger) pendingOf(quota api.Key, r *room) (out []Pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.pending = slices.DeleteFunc(r.pending, func(c *Charge) bool {
		over := !c.until.IsZero() && !l.now().Before(c.until)
		if over {
			r.users-- // the caller is one too, so the room stays open
		}
		return over
	})
	for _, c := range r.pending {
		held, ok := c.held[quota.Name]
		if !ok {
			continue
		}
		p := Pending{UID: c.write.Object.GetUID(), Held: held, Until: c.until}
		if c.write.Old != nil {
			p.Before = c.write.Old.GetResourceVersion()
		}
		out = append(out, p)
	}
	return out
}

// conflict tells whether somebody else has changed or deleted a quota.
func conflict(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err)
}

// errBusy is the answer when quotas change faster than they can be charged.
var errBusy = errors.New("the quotas of the namespace change too fast: try again")
