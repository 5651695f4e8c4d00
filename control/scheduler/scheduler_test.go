package scheduler

import (
	"context"
	"errors"
	"fmt"
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
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// bed is the real registry on a memory log with a scheduler above it, in fake
// time.
type bed struct {
	t   *testing.T
	ctx context.Context
	api *registry.Registry
}

// inBed runs f in a bubble. through changes how the scheduler sees the API.
func inBed(t *testing.T, through func(api.Client) api.Client, f func(*bed)) {
	t.Helper()
	inRegistry(t, func(b *bed, run func(func(context.Context) error)) {
		var client api.Client = b.api
		if through != nil {
			client = through(b.api)
		}
		run(func(ctx context.Context) error { return Run(ctx, Config{Client: client, Served: b.api.Resources()}) })
		synctest.Wait()
		f(b)
	})
}

// inRegistry runs f in a bubble where no scheduler runs.
func inRegistry(t *testing.T, f func(b *bed, run func(func(context.Context) error))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		run := func(r func(context.Context) error) {
			work.Go(func() {
				if err := r(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("ended: %v", err)
				}
			})
		}
		types, err := api.NewTypes()
		if err != nil {
			t.Fatal(err)
		}
		s := store.New(store.NewMemory(), store.Options{})
		run(s.Run)
		reg, err := registry.New(registry.Config{Store: s, Types: types, Admission: admission.Default()})
		if err != nil {
			t.Fatal(err)
		}
		if err := reg.Bootstrap(ctx); err != nil {
			t.Fatal(err)
		}
		f(&bed{t: t, ctx: ctx, api: reg}, run)
	})
}

func (b *bed) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bed) addNode(n *corev1.Node) {
	b.t.Helper()
	if _, err := b.api.Create(b.ctx, api.Nodes.KeyOf(n), n, api.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) addPod(p *corev1.Pod) {
	b.t.Helper()
	p.UID = ""
	if _, err := b.api.Create(b.ctx, api.Pods.KeyOf(p), p, api.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) pod(name string) *corev1.Pod {
	b.t.Helper()
	p, err := api.Get[*corev1.Pod](b.ctx, b.api, api.Pods.Key("default", name))
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bed) changePod(name, subresource string, change func(*corev1.Pod)) {
	b.t.Helper()
	p := b.pod(name).DeepCopy()
	change(p)
	if _, err := b.api.Update(b.ctx, api.Pods.KeyOf(p), p, api.UpdateOptions{Subresource: subresource}); err != nil {
		b.t.Fatal(err)
	}
}

// removePod ends a pod at once, as its node does when it has stopped.
func (b *bed) removePod(name string) {
	b.t.Helper()
	now := int64(0)
	if _, err := b.api.Delete(b.ctx, api.Pods.Key("default", name), api.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		b.t.Fatal(err)
	}
}

// said returns "reason: message" of the Events about a pod.
func (b *bed) said(name string) string {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.Events.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, obj := range list.Items {
		if e := obj.(*corev1.Event); e.InvolvedObject.Name == name {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return strings.Join(out, "\n")
}

func scheduled(p *corev1.Pod) string {
	if c := scheduledCondition(p); c != nil {
		return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)
	}
	return ""
}

func TestSchedulerBinds(t *testing.T) {
	inBed(t, nil, func(b *bed) {
		b.addNode(node("node-1", roomyNode))
		b.addPod(pod("web", "cpu=1"))
		b.pass(time.Second)
		p := b.pod("web")
		if p.Spec.NodeName != "node-1" || !strings.HasPrefix(scheduled(p), "True") {
			t.Errorf("node %q, condition %q", p.Spec.NodeName, scheduled(p))
		}
		if got := b.said("web"); got != "Scheduled: Successfully assigned default/web to node-1" {
			t.Errorf("events %q", got)
		}
	})
}

func TestSchedulerSaysWhyNotAndTriesAgain(t *testing.T) {
	inBed(t, nil, func(b *bed) {
		b.addPod(pod("web", "cpu=2"))
		synctest.Wait()
		if got := scheduled(b.pod("web")); got != "False Unschedulable no nodes available to schedule pods" {
			t.Errorf("condition %q", got)
		}
		b.addNode(node("small", "cpu=1 memory=1Gi pods=10"))
		b.pass(time.Second)
		if got := scheduled(b.pod("web")); got != "False Unschedulable 0/1 nodes are available: 1 Insufficient cpu. "+
			"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling." {
			t.Errorf("condition %q", got)
		}
		if got := b.said("web"); !strings.Contains(got, "FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.") {
			t.Errorf("events %q", got)
		}
		b.addNode(node("large", roomyNode))
		b.pass(time.Second)
		if got := b.pod("web").Spec.NodeName; got != "large" {
			t.Errorf("node %q", got)
		}
	})
}

func TestSchedulerUsesRoomThatPodsLeave(t *testing.T) {
	inBed(t, nil, func(b *bed) {
		b.addNode(node("a", "cpu=1 memory=1Gi pods=10"))
		b.addPod(pod("first", "cpu=1"))
		b.pass(time.Second)
		b.addPod(pod("second", "cpu=1"))
		b.addPod(pod("third", "cpu=1"))
		b.pass(time.Minute)
		if b.pod("second").Spec.NodeName != "" || b.pod("third").Spec.NodeName != "" {
			t.Fatal("overcommitted")
		}
		b.changePod("first", "status", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		b.pass(lastBackoff)
		if b.pod("second").Spec.NodeName != "a" {
			t.Error("a pod that succeeded still takes room")
		}
		now := int64(0)
		if _, err := b.api.Delete(b.ctx, api.Pods.Key("default", "second"), api.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		b.pass(lastBackoff)
		if b.pod("third").Spec.NodeName != "a" {
			t.Error("a pod that was deleted still takes room")
		}
	})
}

func TestSchedulerLeavesPodsOfOthers(t *testing.T) {
	inBed(t, nil, func(b *bed) {
		b.addNode(node("a", roomyNode))
		b.addPod(pod("other", "", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }))
		b.addPod(pod("gated", "", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}} }))
		b.pass(time.Minute)
		if b.pod("other").Spec.NodeName != "" || b.pod("gated").Spec.NodeName != "" {
			t.Error("took a pod that is not to be scheduled")
		}
		if got := scheduled(b.pod("gated")); got != "False SchedulingGated "+gated {
			t.Errorf("condition %q", got)
		}
		b.changePod("gated", "", func(p *corev1.Pod) { p.Spec.SchedulingGates = nil })
		synctest.Wait()
		if b.pod("gated").Spec.NodeName != "a" {
			t.Error("the gate is gone, the pod waits")
		}
	})
}

// flaky answers bindings by turns of its own.
type flaky struct {
	api.Client
	mu       sync.Mutex
	failures []func(ctx context.Context, bind func() (api.Object, error)) (api.Object, error)
}

func (f *flaky) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	bind := func() (api.Object, error) { return f.Client.Create(ctx, key, obj, opts) }
	f.mu.Lock()
	var fail func(context.Context, func() (api.Object, error)) (api.Object, error)
	if opts.Subresource == "binding" && len(f.failures) > 0 {
		fail, f.failures = f.failures[0], f.failures[1:]
	}
	f.mu.Unlock()
	if fail != nil {
		return fail(ctx, bind)
	}
	return bind()
}

var errLost = errors.New("connection lost")

func TestSchedulerSurvivesBindFailures(t *testing.T) {
	for name, fail := range map[string]func(context.Context, func() (api.Object, error)) (api.Object, error){
		"not done": func(context.Context, func() (api.Object, error)) (api.Object, error) { return nil, errLost },
		"answer lost": func(_ context.Context, bind func() (api.Object, error)) (api.Object, error) {
			_, _ = bind()
			return nil, errLost
		},
		"refused": func(context.Context, func() (api.Object, error)) (api.Object, error) {
			return nil, apierrors.NewInternalError(errLost)
		},
	} {
		t.Run(name, func(t *testing.T) {
			through := func(c api.Client) api.Client {
				f := &flaky{Client: c}
				f.failures = append(f.failures, fail)
				return f
			}
			inBed(t, through, func(b *bed) {
				b.addNode(node("a", "cpu=1 memory=1Gi pods=10"))
				b.addPod(pod("web", "cpu=1"))
				b.pass(time.Second)
				if b.pod("web").Spec.NodeName != "a" {
					t.Error("not bound")
				}
				b.addPod(pod("more", "cpu=1"))
				b.pass(time.Second)
				if b.pod("more").Spec.NodeName != "" {
					t.Error("overcommitted")
				}
			})
		})
	}
}

// A pod that something holds after its deletion stays without a node: a binding
// that was under way then fails, and is not to be tried again.
func TestSchedulerGivesUpPodsThatAreDeleted(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"deleted":         func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) },
		"given to others": func(p *corev1.Pod) { p.Spec.SchedulerName = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			s, err := New(Config{Client: struct{ api.Client }{}, Clock: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			s.snapshot.SetNode(node("a", roomyNode))
			before := pod("held", "")
			it := &item{request: newRequest(before), position: -1}
			s.snapshot.place(it.request, "a")
			s.binding[before.UID] = it
			after := before.DeepCopy()
			change(after)
			s.podChanged(t.Context(), before, after)
			s.bound(it, errLost)
			now = now.Add(time.Hour)
			if next, _ := s.queue.pop(now); next != nil {
				s.schedule(t.Context(), next)
			}
			s.writes.Wait()
			if on, placed := s.snapshot.NodeOf(before.UID); placed || len(s.binding) > 0 {
				t.Errorf("placed on %q again", on)
			}
		})
	}
}

func TestSchedulerFillsNodesExactly(t *testing.T) {
	inBed(t, nil, func(b *bed) {
		for i := range 5 {
			b.addNode(node(fmt.Sprint("n", i), "cpu=2 memory=8Gi pods=100"))
		}
		for i := range 120 {
			b.addPod(pod(fmt.Sprint("p", i), "cpu=100m"))
		}
		b.pass(time.Minute)
		used, waiting := map[string]int{}, 0
		for i := range 120 {
			if on := b.pod(fmt.Sprint("p", i)).Spec.NodeName; on != "" {
				used[on]++
			} else {
				waiting++
			}
		}
		if waiting != 20 {
			t.Errorf("%d wait, want 20", waiting)
		}
		for name, n := range used {
			if n != 20 {
				t.Errorf("%s holds %d, want 20", name, n)
			}
		}
	})
}
