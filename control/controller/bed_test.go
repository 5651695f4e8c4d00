package controller

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/quota"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// bed is the real registry on a memory log with some controllers above it, in
// fake time: it lives in a synctest bubble.
type bed struct {
	t   *testing.T
	ctx context.Context
	api *registry.Registry

	which  func(Config) []runner
	change []func(*Config)
	quotas *quota.Ledger
	log    *store.Memory
	endAPI func()
	types  *api.Types
	run    func(ctx context.Context, what string, r func(context.Context) error) (wait func())
	crash  func() // ends the controllers
}

// inBed runs f in a bubble with the controllers that which picks.
func inBed(t *testing.T, which func(Config) []runner, f func(*bed), change ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		b := &bed{t: t, ctx: ctx, which: which, change: change}
		b.run = func(ctx context.Context, what string, r func(context.Context) error) func() {
			done := make(chan struct{})
			work.Go(func() {
				defer close(done)
				if err := r(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("%s ended: %v", what, err)
				}
			})
			return func() { <-done }
		}
		types, err := api.NewTypes()
		if err != nil {
			t.Fatal(err)
		}
		b.types, b.log = types, store.NewMemory()
		b.restartAPI()
		defer work.Wait()
		defer cancel()
		if err := b.api.Bootstrap(ctx); err != nil {
			t.Fatal(err)
		}
		b.start()
		synctest.Wait()
		f(b)
	})
}

// restartAPI makes an API server that knows nothing but what is stored. The last
// one ends, wherever its requests are.
func (b *bed) restartAPI() {
	b.t.Helper()
	if b.endAPI != nil {
		b.endAPI()
	}
	b.quotas = quota.NewLedger(nil)
	b.api, b.endAPI = b.newAPI(admission.New(admission.Config{Quotas: b.quotas}))
}

// newAPI is one more API server over what is stored.
func (b *bed) newAPI(judge registry.Admission) (server *registry.Registry, end func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	log := &mortal{Memory: b.log}
	s := store.New(log, store.Options{})
	wait := b.run(ctx, "store", s.Run)
	server, err := registry.New(registry.Config{Store: s, Types: b.types, Admission: judge})
	if err == nil {
		err = s.WaitReady(ctx)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return server, func() { log.die(); cancel(); wait() }
}

// mortal is a server's way to the log, which ends with it.
type mortal struct {
	*store.Memory
	mu   sync.RWMutex
	dead bool
}

var errDead = errors.New("this server is no more")

func (m *mortal) Append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dead {
		return 0, errDead
	}
	return m.Memory.Append(ctx, key, value, deleted, expect)
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// start makes new controllers, which know nothing but what is stored.
func (b *bed) start() {
	b.t.Helper()
	cfg := Config{Client: b.api, Quotas: b.quotas}
	for _, c := range b.change {
		c(&cfg)
	}
	controllers, err := newWith(cfg, b.which)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	wait := b.run(ctx, "controllers", controllers.Run)
	b.crash = func() {
		cancel()
		wait()
		synctest.Wait() // what was under way has arrived when the next one starts
	}
}

// settle waits until nothing moves any more at this time.
func (b *bed) settle() { synctest.Wait() }

// pass lets time go by.
func (b *bed) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func create[T api.Object](b *bed, r api.Resource, obj T) T {
	b.t.Helper()
	made, err := b.api.Create(b.ctx, r.KeyOf(obj), obj, api.CreateOptions{})
	if err != nil {
		b.t.Fatalf("create %s: %v", r.KeyOf(obj), err)
	}
	return made.(T)
}

// get returns an object, ok false when there is none.
func get[T api.Object](b *bed, key api.Key) (obj T, ok bool) {
	b.t.Helper()
	obj, err := api.Get[T](b.ctx, b.api, key)
	if err != nil && !apierrors.IsNotFound(err) {
		b.t.Fatal(err)
	}
	return obj, err == nil
}

func (b *bed) exists(key api.Key) bool {
	b.t.Helper()
	_, ok := get[api.Object](b, key)
	return ok
}

func (b *bed) delete(key api.Key, policy metav1.DeletionPropagation) {
	b.t.Helper()
	opts := api.DeleteOptions{}
	if policy != "" {
		opts.Propagation = &policy
	}
	if _, err := b.api.Delete(b.ctx, key, opts); err != nil {
		b.t.Fatal(err)
	}
}

// deleteIfThere is delete for what others may delete at the same time.
func (b *bed) deleteIfThere(key api.Key, policy metav1.DeletionPropagation) {
	b.t.Helper()
	if _, err := b.api.Delete(b.ctx, key, api.DeleteOptions{Propagation: &policy}); err != nil && !apierrors.IsNotFound(err) {
		b.t.Fatal(err)
	}
}

// update changes an object (or its status) as it is now, again when somebody
// else did meanwhile.
func update[T api.Object](b *bed, key api.Key, subresource string, change func(T)) {
	b.t.Helper()
	for {
		now, ok := get[T](b, key)
		if !ok {
			b.t.Fatalf("%s is gone", key)
		}
		obj := now.DeepCopyObject().(T)
		change(obj)
		_, err := b.api.Update(b.ctx, key, obj, api.UpdateOptions{Subresource: subresource})
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			b.t.Fatalf("update %s: %v", key, err)
		}
		return
	}
}

// eventsLater is more than how long events wait before they are written.
const eventsLater = 50 * time.Millisecond

// events returns the reasons of the Events about an object, in no order, once
// those of what has happened are written.
func (b *bed) events(name string) string {
	b.t.Helper()
	b.pass(eventsLater)
	list, err := b.api.List(b.ctx, api.Events.Key("", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, obj := range list.Items {
		if e := obj.(*corev1.Event); e.InvolvedObject.Name == name {
			out = append(out, e.Reason)
		}
	}
	return strings.Join(out, " ")
}
