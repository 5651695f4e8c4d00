package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// dying is a client whose process is killed at some write: that one may or may
// not get through, none after it does.
type dying struct {
	api.Client
	mu     sync.Mutex
	random *rand.Rand
	left   int // writes that get through
	kill   context.CancelFunc
}

// attempt says whether a write gets through, and whether its answer does.
func (d *dying) attempt() (through, answered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	switch {
	case d.left > 0:
		return true, true
	case d.left == 0:
		d.kill()
		return d.random.IntN(2) == 0, false
	}
	return false, false
}

func write[T any](d *dying, do func() (T, error)) (T, error) {
	var none T
	through, answered := d.attempt()
	if !through {
		return none, errLost
	}
	got, err := do()
	if !answered {
		return none, errLost
	}
	return got, err
}

func (d *dying) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	return write(d, func() (api.Object, error) { return d.Client.Create(context.WithoutCancel(ctx), key, obj, opts) })
}

func (d *dying) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	return write(d, func() (api.Object, error) { return d.Client.Patch(context.WithoutCancel(ctx), key, patch, opts) })
}

func (d *dying) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	return write(d, func() (api.Object, error) { return d.Client.Delete(context.WithoutCancel(ctx), key, opts) })
}

// judge follows all pods and knows at each moment what is on each node.
type judge struct {
	t    *testing.T
	room resource.Quantity // CPU of each node
	on   map[types.UID]string
	pods map[types.UID]*corev1.Pod
}

func (j *judge) see(event api.Event) {
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return
	}
	if before := j.on[pod.UID]; before != "" && pod.Spec.NodeName != before {
		j.t.Errorf("%s moved from %s to %q", pod.Name, before, pod.Spec.NodeName)
	}
	j.on[pod.UID] = pod.Spec.NodeName
	if event.Type == watch.Deleted || ended(pod) {
		delete(j.pods, pod.UID)
		return
	}
	j.pods[pod.UID] = pod
	if pod.Spec.NodeName == "" {
		return
	}
	var used resource.Quantity
	for _, p := range j.pods {
		if p.Spec.NodeName == pod.Spec.NodeName {
			used.Add(p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU])
		}
	}
	if used.Cmp(j.room) > 0 {
		j.t.Errorf("%s is overcommitted: %s of %s", pod.Spec.NodeName, used.String(), j.room.String())
	}
}

// A scheduler that is killed at any moment, between writes and within one, is
// followed by another one. No pod gets two nodes, no node too many pods, and in
// the end each pod has its node.
func TestSchedulerSurvivesKills(t *testing.T) {
	kills := 0
	for seed := range uint64(12) {
		inRegistry(t, func(b *bed, run func(func(context.Context) error)) {
			r := rand.New(rand.NewPCG(seed, 23))
			j := &judge{t: t, room: resource.MustParse("4"), on: map[types.UID]string{}, pods: map[types.UID]*corev1.Pod{}}
			events, err := b.api.Watch(b.ctx, api.Pods.Key("", ""), api.ListOptions{SendInitialEvents: true})
			if err != nil {
				t.Fatal(err)
			}
			run(func(ctx context.Context) error {
				for {
					event, err := events.Next(ctx)
					if err != nil {
						return nil
					}
					j.see(event)
				}
			})
			for i := range 6 {
				b.addNode(node(fmt.Sprint("n", i), "cpu=4 memory=32Gi pods=110"))
			}
			for i := 0; i < 40; {
				for range 1 + r.IntN(8) {
					change := []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(0)) }}
					if i%9 == 8 {
						change = append(change, func(p *corev1.Pod) { p.Spec.PriorityClassName = "system-cluster-critical" }, prio(2000000000))
					}
					b.addPod(pod(fmt.Sprint("p", i), fmt.Sprintf("cpu=%dm", 100+100*r.IntN(8)), change...))
					i++
				}
				ctx, kill := context.WithCancel(b.ctx)
				client := &dying{Client: b.api, random: rand.New(rand.NewPCG(seed, uint64(100+i))), left: 1 + r.IntN(25), kill: kill}
				done := make(chan error)
				go func() {
					done <- Run(ctx, Config{Client: client, Served: b.api.Resources(), Random: rand.New(rand.NewPCG(seed, uint64(i)))})
				}()
				b.pass(time.Duration(r.IntN(3000)) * time.Millisecond)
				if ctx.Err() != nil {
					kills++
				}
				kill()
				if err := <-done; err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			for i := range 6 { // there is room for all in the end
				b.addNode(node(fmt.Sprint("more", i), "cpu=4 memory=32Gi pods=110"))
			}
			run(func(ctx context.Context) error { return Run(ctx, Config{Client: b.api, Served: b.api.Resources()}) })
			b.pass(parkedFor)
			synctest.Wait()
			for _, p := range j.pods {
				if p.Spec.NodeName == "" {
					t.Errorf("seed %d: %s has no node: %s", seed, p.Name, scheduled(p))
				}
			}
			if len(j.pods) < 20 {
				t.Errorf("seed %d: %d pods: the test shows little", seed, len(j.pods))
			}
		})
	}
	if kills < 12 {
		t.Errorf("%d kills: the test shows little", kills)
	}
}
