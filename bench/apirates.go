package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
)

// apiListed is how many objects a list of the benchmark has.
const apiListed = 100

// apiRates measures each verb on ConfigMaps of about 1 KiB, every client on a
// connection of its own.
func apiRates(ctx context.Context, env *Env, rec *Recorder) error {
	bed := &apiBed{env: env, selector: labels.SelectorFromSet(labels.Set{"bench": "listed"})}
	if err := bed.fill(ctx); err != nil {
		return err
	}
	for _, verb := range []struct {
		name string
		op   func(ctx context.Context, client api.Client, worker int) error
	}{
		{"create", bed.create}, {"get", bed.get}, {"list", bed.list}, {"update", bed.update},
	} {
		prepare := func(_ context.Context, n int) (operation, func(), error) {
			clients, err := bed.clients(n)
			return func(ctx context.Context, worker int) error { return verb.op(ctx, clients[worker], worker) }, func() {}, err
		}
		if err := env.loads(ctx, rec, "verb="+verb.name, "clients", env.Clients, prepare); err != nil {
			return err
		}
	}
	for _, n := range env.Clients {
		if err := bed.watch(ctx, rec, n); err != nil {
			return err
		}
	}
	return nil
}

// apiBed is what the verbs work on.
type apiBed struct {
	env      *Env
	selector labels.Selector
	made     atomic.Int64
}

func (b *apiBed) configMap(name string, set labels.Set) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.env.Namespace, Name: name, Labels: set},
		Data: map[string]string{"text": filler}}
}

// filler makes an object about 1 KiB large.
var filler = func() string {
	text := make([]byte, 900)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	return string(text)
}()

// listed is the name of the i-th object that is always there.
func listed(i int) string { return fmt.Sprintf("listed-%03d", i) }

func (b *apiBed) fill(ctx context.Context) error {
	return each(apiListed, func(i int) error {
		one := b.configMap(listed(i), labels.Set{"bench": "listed"})
		_, err := b.env.Client.Create(ctx, api.ConfigMaps.KeyOf(one), one, api.CreateOptions{})
		return err
	})
}

func (b *apiBed) clients(n int) ([]api.Client, error) {
	clients := make([]api.Client, n)
	for i := range clients {
		var err error
		if clients[i], err = b.env.NewClient(); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

func (b *apiBed) create(ctx context.Context, client api.Client, _ int) error {
	one := b.configMap(fmt.Sprintf("made-%d", b.made.Add(1)), nil)
	_, err := client.Create(ctx, api.ConfigMaps.KeyOf(one), one, api.CreateOptions{})
	return err
}

func (b *apiBed) get(ctx context.Context, client api.Client, worker int) error {
	_, err := client.Get(ctx, api.ConfigMaps.Key(b.env.Namespace, listed(worker%apiListed)), api.GetOptions{})
	return err
}

func (b *apiBed) list(ctx context.Context, client api.Client, _ int) error {
	list, err := client.List(ctx, api.ConfigMaps.Key(b.env.Namespace, ""), api.ListOptions{Labels: b.selector})
	if err == nil && len(list.Items) != apiListed {
		err = fmt.Errorf("a list has %d objects, want %d", len(list.Items), apiListed)
	}
	return err
}

// update replaces an object without a precondition, as the last of those who
// write; several workers may share one.
func (b *apiBed) update(ctx context.Context, client api.Client, worker int) error {
	one := b.configMap(listed(worker%apiListed), labels.Set{"bench": "listed"})
	one.Annotations = map[string]string{"bench": fmt.Sprint(b.made.Add(1))}
	_, err := client.Update(ctx, api.ConfigMaps.KeyOf(one), one, api.UpdateOptions{})
	return err
}

// watchEvents is how many changes a repetition of the watch makes.
const watchEvents = 50

// watch measures how long after a write began each of n watchers has seen it.
func (b *apiBed) watch(ctx context.Context, rec *Recorder, n int) error {
	one := rec.result("verb=watch/clients=%d", n)
	clients, err := b.clients(n)
	if err != nil {
		return err
	}
	return b.env.latencies(ctx, rec, one, func(ctx context.Context) (*result.Histogram, error) { return b.watchOnce(ctx, clients) })
}

// latencies adds a result of which each repetition is what once has timed.
func (e *Env) latencies(ctx context.Context, rec *Recorder, one *result.Result,
	once func(ctx context.Context) (*result.Histogram, error)) error {
	err := e.repeat(ctx, rec, one, func(ctx context.Context, _ int) (result.Run, *result.Histogram, error) {
		h, err := once(ctx)
		if err != nil {
			return result.Run{}, nil, err
		}
		return result.Run{Count: h.Count(), Metrics: result.Latencies(h)}, h, nil
	})
	if err != nil {
		return err
	}
	rec.add(one)
	return nil
}

func (b *apiBed) watchOnce(ctx context.Context, clients []api.Client) (*result.Histogram, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := uniqueName("watched")
	set := labels.Set{"bench": name}
	made, err := b.env.Client.Create(ctx, api.ConfigMaps.Key(b.env.Namespace, name), b.configMap(name, set), api.CreateOptions{})
	if err != nil {
		return nil, err
	}
	options := api.ListOptions{Labels: labels.SelectorFromSet(set), ResourceVersion: made.GetResourceVersion()}
	seen := &sightings{}
	var work sync.WaitGroup
	defer work.Wait()
	for _, client := range clients {
		events, err := client.Watch(ctx, api.ConfigMaps.Key(b.env.Namespace, ""), options)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("watch: %w", err)
		}
		work.Go(func() {
			defer events.Stop()
			seen.follow(ctx, events)
		})
	}
	for i := range watchEvents {
		changed := b.configMap(name, set)
		changed.Annotations = map[string]string{"bench": fmt.Sprint(i)}
		begun := seen.expect(len(clients))
		if _, err := b.env.Client.Update(ctx, api.ConfigMaps.KeyOf(changed), changed, api.UpdateOptions{}); err != nil {
			cancel()
			return nil, err
		}
		select {
		case <-begun:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d watchers to see a change: %w", len(clients), ctx.Err())
		}
	}
	cancel()
	work.Wait()
	return &seen.latency, nil
}

// sightings times the arrival of one change at all watchers.
type sightings struct {
	mu      sync.Mutex
	latency result.Histogram
	begin   time.Time
	left    int
	all     chan struct{}
}

// expect begins a change that so many watchers will see; the channel is closed
// when all have.
func (s *sightings) expect(watchers int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin, s.left, s.all = time.Now(), watchers, make(chan struct{})
	return s.all
}

func (s *sightings) follow(ctx context.Context, events api.Watch) {
	for {
		event, err := events.Next(ctx)
		if err != nil {
			return
		}
		now := time.Now()
		if event.Type != "MODIFIED" {
			continue
		}
		s.mu.Lock()
		s.latency.Add(now.Sub(s.begin))
		if s.left--; s.left == 0 {
			close(s.all)
		}
		s.mu.Unlock()
	}
}
