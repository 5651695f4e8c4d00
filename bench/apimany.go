package bench

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
)

// manyClients share the work of apiMany, as 16 controllers do.
const manyClients = 16

// apiMany measures an API server that has much to do: pods as controllers
// make them (nobody schedules them), lists of all of them, and many watches,
// each of a pod of its own, as of agents, and all of one.
func apiMany(ctx context.Context, env *Env, rec *Recorder) error {
	m := &many{env: env, name: uniqueName("many")}
	clients := &apiBed{env: env}
	var err error
	if m.clients, err = clients.clients(manyClients); err != nil {
		return err
	}
	if err := m.fill(ctx); err != nil {
		return err
	}
	if err := m.create(ctx, rec); err != nil {
		return err
	}
	prepare := func(context.Context, int) (operation, func(), error) {
		return func(ctx context.Context, worker int) error { return m.get(ctx, m.clients[worker]) }, func() {}, nil
	}
	if err := env.loads(ctx, rec, "verb=get/kind=pods", "clients", []int{manyClients}, prepare); err != nil {
		return err
	}
	if err := m.list(ctx, rec); err != nil {
		return err
	}
	for _, told := range []string{"one", "all"} {
		if err := m.watch(ctx, rec, told == "all"); err != nil {
			return err
		}
	}
	return nil
}

// many is what apiMany works on.
type many struct {
	env     *Env
	name    string
	clients []api.Client
	made    atomic.Int64
}

// pod is one that nobody schedules.
func (m *many) pod(name, set string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: m.env.Namespace, Name: name, Labels: map[string]string{"bench": set}},
		Spec: corev1.PodSpec{SchedulerName: "bench.wherry.dev/nobody", Containers: []corev1.Container{{Name: "app", Image: "hello:v1",
			Ports: []corev1.ContainerPort{{ContainerPort: 8080}}, Env: []corev1.EnvVar{{Name: "MODE", Value: "quiet"}}}}},
	}
}

func (m *many) listed(i int) string { return fmt.Sprintf("%s-%d", m.name, i) }

func (m *many) fill(ctx context.Context) error {
	return each(m.env.Objects, func(i int) error {
		_, err := m.clients[i%manyClients].Create(ctx, api.Pods.Key(m.env.Namespace, m.listed(i)), m.pod(m.listed(i), m.name), api.CreateOptions{})
		return err
	})
}

// create times the creation of as many pods again as are listed, a fifth in each
// repetition, and takes them away.
func (m *many) create(ctx context.Context, rec *Recorder) error {
	one := rec.result("verb=create/kind=pods/clients=%d", manyClients)
	err := m.env.repeat(ctx, rec, one, func(ctx context.Context, _ int) (result.Run, *result.Histogram, error) {
		pods := max(1, m.env.Objects/5)
		name := func(i int) string { return fmt.Sprintf("%s-made-%d", m.name, i) }
		latency, lasted, err := m.share(ctx, pods, func(client api.Client, i int) error {
			_, err := client.Create(ctx, api.Pods.Key(m.env.Namespace, name(i)), m.pod(name(i), "made"), api.CreateOptions{})
			return err
		})
		if err != nil {
			return result.Run{}, nil, err
		}
		now := int64(0)
		_, _, err = m.share(ctx, pods, func(client api.Client, i int) error {
			_, err := client.Delete(ctx, api.Pods.Key(m.env.Namespace, name(i)), api.DeleteOptions{GracePeriodSeconds: &now})
			return err
		})
		metrics := append(result.Latencies(latency), result.Metric{Value: float64(pods) / lasted.Seconds(), Unit: "ops/s"})
		return result.Run{Count: latency.Count(), Metrics: metrics}, latency, err
	})
	if err != nil {
		return err
	}
	rec.add(one)
	return nil
}

// share spreads n calls over the clients and times them.
func (m *many) share(ctx context.Context, n int, call func(client api.Client, i int) error) (*result.Histogram, time.Duration, error) {
	var next atomic.Int64
	var mu sync.Mutex
	var work sync.WaitGroup
	all, failed := &result.Histogram{}, error(nil)
	begun := time.Now()
	for _, client := range m.clients {
		work.Go(func() {
			mine := &result.Histogram{}
			var err error
			for i := next.Add(1) - 1; i < int64(n) && err == nil && ctx.Err() == nil; i = next.Add(1) - 1 {
				at := time.Now()
				err = call(client, int(i))
				mine.Add(time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all.Merge(mine)
			failed = cmp.Or(failed, err)
		})
	}
	work.Wait()
	return all, time.Since(begun), cmp.Or(failed, ctx.Err())
}

func (m *many) get(ctx context.Context, client api.Client) error {
	i := int(m.made.Add(1)) % m.env.Objects
	_, err := client.Get(ctx, api.Pods.Key(m.env.Namespace, m.listed(i)), api.GetOptions{})
	return err
}

// list times lists of all pods by one client.
func (m *many) list(ctx context.Context, rec *Recorder) error {
	one := rec.result("verb=list/kind=pods/objects=%d", m.env.Objects)
	options := api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"bench": m.name})}
	err := m.env.repeat(ctx, rec, one, func(ctx context.Context, _ int) (result.Run, *result.Histogram, error) {
		h := &result.Histogram{}
		for range m.env.Samples {
			begun := time.Now()
			list, err := m.clients[0].List(ctx, api.Pods.Key(m.env.Namespace, ""), options)
			if err == nil && len(list.Items) != m.env.Objects {
				err = fmt.Errorf("a list has %d objects, want %d", len(list.Items), m.env.Objects)
			}
			if err != nil {
				return result.Run{}, nil, err
			}
			h.Add(time.Since(begun))
		}
		return result.Run{Count: h.Count(), Metrics: result.Latencies(h)}, h, nil
	})
	if err != nil {
		return err
	}
	rec.add(one)
	return nil
}

// watch measures how long after a write began its watchers have seen it: each
// of a pod of its own, or all of one.
func (m *many) watch(ctx context.Context, rec *Recorder, all bool) error {
	told := "one"
	if all {
		told = "all"
	}
	one := rec.result("verb=watch/watchers=%d/told=%s", m.env.Watchers, told)
	return m.env.latencies(ctx, rec, one, func(ctx context.Context) (*result.Histogram, error) { return m.watchOnce(ctx, all) })
}

func (m *many) watchOnce(ctx context.Context, all bool) (*result.Histogram, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	watched := m.env.Objects
	if all {
		watched = 1
	}
	from, err := m.env.Client.List(ctx, api.Pods.Key(m.env.Namespace, ""), api.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	seen := &sightings{}
	watchers := map[int]int{} // by pod
	for i := range m.env.Watchers {
		options := api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", m.listed(i%watched)), ResourceVersion: from.ResourceVersion}
		events, err := m.clients[i%manyClients].Watch(ctx, api.Pods.Key(m.env.Namespace, ""), options)
		if err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
		watchers[i%watched]++
		work.Go(func() {
			defer events.Stop()
			seen.follow(ctx, events)
		})
	}
	for i := range watchEvents {
		target := i % min(watched, m.env.Watchers)
		patch := api.Patch{Type: types.MergePatchType, Data: fmt.Appendf(nil, `{"metadata":{"annotations":{"bench":"%d"}}}`, m.made.Add(1))}
		begun := seen.expect(watchers[target])
		if _, err := m.env.Client.Patch(ctx, api.Pods.Key(m.env.Namespace, m.listed(target)), patch, api.PatchOptions{}); err != nil {
			return nil, err
		}
		select {
		case <-begun:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d watchers to see a change: %w", watchers[target], ctx.Err())
		}
	}
	return &seen.latency, nil
}
