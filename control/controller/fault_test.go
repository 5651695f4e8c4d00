package controller

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

var errLost = errors.New("connection reset")

// faulty is a client whose writes fail now and then: before they are carried
// out, or after, so that only the answer is lost; and whose watches lag.
type faulty struct {
	api.Client

	mu   sync.Mutex
	rnd  *rand.Rand
	rate float64 // of writes that fail
	lag  time.Duration
}

func newFaulty(seed uint64, rate float64) *faulty {
	return &faulty{rnd: rand.New(rand.NewPCG(seed, 77)), rate: rate}
}

// under makes it the client of a bed's controllers, also of later ones.
func (f *faulty) under(cfg *Config) { f.Client, cfg.Client = cfg.Client, f }

// heal ends the faults.
func (f *faulty) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = 0
}

// fate is what becomes of a write: it is done or not, and err is its answer
// instead of the true one.
func (f *faulty) fate(key api.Key) (done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rnd.Float64() >= f.rate || key.Resource == "events" {
		return true, nil
	}
	switch f.rnd.IntN(4) {
	case 0:
		return false, errLost
	case 1:
		return false, apierrors.NewConflict(schema.GroupResource{Resource: key.Resource}, key.Name, errLost)
	default:
		return true, errLost
	}
}

func (f *faulty) write(ctx context.Context, key api.Key, do func() (api.Object, error)) (api.Object, error) {
	done, fail := f.fate(key)
	if !done {
		return nil, fail
	}
	obj, err := do()
	if err == nil && fail != nil {
		return nil, fail
	}
	return obj, err
}

func (f *faulty) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	return f.write(ctx, key, func() (api.Object, error) { return f.Client.Create(ctx, key, obj, opts) })
}

func (f *faulty) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	return f.write(ctx, key, func() (api.Object, error) { return f.Client.Update(ctx, key, obj, opts) })
}

func (f *faulty) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	return f.write(ctx, key, func() (api.Object, error) { return f.Client.Patch(ctx, key, patch, opts) })
}

func (f *faulty) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	return f.write(ctx, key, func() (api.Object, error) { return f.Client.Delete(ctx, key, opts) })
}

// Watch delivers some events a little late, and those after them.
func (f *faulty) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	w, err := f.Client.Watch(ctx, key, opts)
	if err != nil || f.lag == 0 {
		return w, err
	}
	return slow{Watch: w, pause: func() time.Duration {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.rate == 0 || f.rnd.IntN(4) > 0 { // else the delays add up to seconds
			return 0
		}
		return time.Duration(f.rnd.Int64N(int64(f.lag)))
	}}, nil
}

type slow struct {
	api.Watch
	pause func() time.Duration
}

func (s slow) Next(ctx context.Context) (api.Event, error) {
	event, err := s.Watch.Next(ctx)
	if d := s.pause(); err == nil && d > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	return event, err
}

// onPods calls f for each change of a pod in the default namespace, in order,
// with the pods as they are after it. old is nil for a new pod, new for one
// that is gone.
func (b *bed) onPods(f func(old, new *corev1.Pod, all map[string]*corev1.Pod)) {
	b.t.Helper()
	w, err := b.api.Watch(b.ctx, api.Pods.Key("default", ""), api.ListOptions{SendInitialEvents: true})
	if err != nil {
		b.t.Fatal(err)
	}
	all := map[string]*corev1.Pod{}
	b.run(b.ctx, "observer", func(ctx context.Context) error {
		defer w.Stop()
		for {
			event, err := w.Next(ctx)
			if err != nil {
				return err
			}
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Bookmark {
				continue
			}
			old := all[pod.Name]
			if event.Type == watch.Deleted {
				delete(all, pod.Name)
				f(old, nil, all)
				continue
			}
			all[pod.Name] = pod
			f(old, pod, all)
		}
	})
}

// crashing is a client of a process that dies after a number of writes: the
// answer of the last one is lost, and no further one is sent.
type crashing struct {
	api.Client

	mu   sync.Mutex
	left int // writes
	dead bool
}

// dieAfter sets the number of writes; 0 is none of them.
func (c *crashing) dieAfter(writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.dead = writes, false
}

// crashed says that the process has died since the last call, and lets the
// next one live.
func (c *crashing) crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.dead
	c.dead = false
	return was
}

func (c *crashing) write(key api.Key, do func() (api.Object, error)) (api.Object, error) {
	c.mu.Lock()
	if key.Resource == "events" {
		c.mu.Unlock()
		return do()
	}
	c.left--
	last, dead := c.left == 0, c.dead
	c.dead = dead || last
	c.mu.Unlock()
	if dead {
		return nil, errLost
	}
	obj, err := do()
	if last {
		return nil, errLost
	}
	return obj, err
}

func (c *crashing) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	return c.write(key, func() (api.Object, error) { return c.Client.Create(ctx, key, obj, opts) })
}

func (c *crashing) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	return c.write(key, func() (api.Object, error) { return c.Client.Update(ctx, key, obj, opts) })
}

func (c *crashing) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	return c.write(key, func() (api.Object, error) { return c.Client.Patch(ctx, key, patch, opts) })
}

func (c *crashing) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	return c.write(key, func() (api.Object, error) { return c.Client.Delete(ctx, key, opts) })
}
