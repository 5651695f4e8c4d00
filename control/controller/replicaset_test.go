package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

func justReplicaSets(cfg Config) []runner { return []runner{newReplicaSets(cfg)} }

func webReplicaSet(replicas int32) *appsv1.ReplicaSet {
	d := webDeployment(replicas)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: d.Spec.Selector, Template: d.Spec.Template},
	}
}

var rsKey = api.ReplicaSets.Key("default", "web")

func TestReplicaSetAdoptsAndReleases(t *testing.T) {
	inBed(t, justReplicaSets, func(b *bed) {
		orphan := webPod(1, true)
		orphan.UID, orphan.Status = "", corev1.PodStatus{}
		create(b, api.Pods, orphan)
		rs := create(b, api.ReplicaSets, webReplicaSet(3))
		b.settle()
		if n := len(b.pods()); n != 3 {
			t.Fatalf("%d pods, want 3 with the adopted one", n)
		}
		key := api.Pods.KeyOf(orphan)
		if p, _ := get[*corev1.Pod](b, key); !metav1.IsControlledBy(p, rs) {
			t.Fatal("the matching orphan was not adopted")
		}
		update(b, key, "", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "debug"} })
		b.settle()
		if p, _ := get[*corev1.Pod](b, key); metav1.GetControllerOf(p) != nil {
			t.Error("a pod that no longer matches was not released")
		}
		if n := len(b.pods()); n != 4 {
			t.Errorf("%d pods, want the released one and 3 others", n)
		}
	})
}

func TestReplicaSetStatusFollowsMinReady(t *testing.T) {
	inBed(t, justReplicaSets, func(b *bed) {
		rs := webReplicaSet(2)
		rs.Spec.MinReadySeconds = 10
		create(b, api.ReplicaSets, rs)
		b.settle()
		b.serve()
		status := func() appsv1.ReplicaSetStatus {
			rs, _ := get[*appsv1.ReplicaSet](b, rsKey)
			return rs.Status
		}
		if s := status(); s.Replicas != 2 || s.ReadyReplicas != 2 || s.AvailableReplicas != 0 || s.FullyLabeledReplicas != 2 {
			t.Fatalf("just ready: %+v", s)
		}
		b.pass(11 * time.Second)
		if s := status(); s.AvailableReplicas != 2 || s.ObservedGeneration != 1 {
			t.Errorf("after minReadySeconds: %+v", s)
		}
	})
}

// refusing is a client that fails to create pods while told to.
type refusing struct {
	api.Client
	refuse atomic.Bool
	tries  atomic.Int32
}

func (r *refusing) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if key.Resource == "pods" && r.refuse.Load() {
		r.tries.Add(1)
		return nil, errors.New("no more pods today")
	}
	return r.Client.Create(ctx, key, obj, opts)
}

func TestReplicaFailureComesAndGoes(t *testing.T) {
	client := &refusing{}
	client.refuse.Store(true)
	inBed(t, justReplicaSets, func(b *bed) {
		create(b, api.ReplicaSets, webReplicaSet(200))
		b.settle()
		rs, _ := get[*appsv1.ReplicaSet](b, rsKey)
		if n := client.tries.Load(); n > 10 {
			t.Errorf("%d creates were tried at once though the first failed", n)
		}
		if len(rs.Status.Conditions) != 1 || rs.Status.Conditions[0].Reason != failedCreate {
			t.Fatalf("conditions: %+v", rs.Status.Conditions)
		}
		client.refuse.Store(false)
		b.pass(time.Minute)
		if n := len(b.pods()); n != 200 {
			t.Errorf("%d pods, want exactly 200", n)
		}
		if rs, _ := get[*appsv1.ReplicaSet](b, rsKey); len(rs.Status.Conditions) != 0 {
			t.Errorf("the condition stays: %+v", rs.Status.Conditions)
		}
	}, func(cfg *Config) { client.Client, cfg.Client = cfg.Client, client })
}

func TestVictims(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	make := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		p := webPod(0, true)
		p.Name, p.UID = name, types.UID(name)
		p.CreationTimestamp = metav1.NewTime(now.Add(-1000 * time.Second))
		p.Status.Conditions[0].LastTransitionTime = p.CreationTimestamp
		change(p)
		return p
	}
	keep := make("keep", func(*corev1.Pod) {})
	for name, victim := range map[string]*corev1.Pod{
		"not bound":     make("v", func(p *corev1.Pod) { p.Spec.NodeName = "" }),
		"pending":       make("v", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }),
		"not ready":     make("v", func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }),
		"cheap":         make("v", func(p *corev1.Pod) { p.Annotations = map[string]string{deletionCost: "-1"} }),
		"ready lately":  make("v", func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Second)) }),
		"restarted":     make("v", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 1}} }),
		"created later": make("v", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Second)) }),
	} {
		if got := victims([]*corev1.Pod{keep, victim}, nil, 1, now); got[0] != victim {
			t.Errorf("%s: the other pod goes first", name)
		}
	}
	crowded := make("v", func(p *corev1.Pod) { p.Spec.NodeName = "n2" })
	related := []*corev1.Pod{keep, crowded, make("x", func(p *corev1.Pod) { p.Spec.NodeName = "n2" })}
	if got := victims([]*corev1.Pod{keep, crowded}, related, 1, now); got[0] != crowded {
		t.Error("the pod on the fuller node must go first")
	}
}

func TestExpectations(t *testing.T) {
	now := time.Unix(0, 0)
	e := newExpectations(func() time.Time { return now })
	check := func(want bool, when string) {
		t.Helper()
		if got := e.satisfied("a"); got != want {
			t.Errorf("%s: satisfied is %v", when, got)
		}
	}
	check(true, "nothing expected")
	e.expectCreation("a", "x")
	e.expectCreation("a", "y")
	e.created("a", "x")
	e.created("a", "x")
	e.created("b", "y")
	check(false, "one of two seen")
	e.doubtCreation("a", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	e.doubtCreation("a", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "y"}})
	if creations, _ := e.doubtful("a"); len(creations) != 1 || creations[0].Name != "y" {
		t.Errorf("doubtful: %v, want the one that was not seen", creations)
	}
	e.created("a", "y")
	check(true, "both seen")
	e.expectDeletion("a", "p")
	e.expectDeletion("a", "q")
	e.deleted("a", "p")
	e.deleted("a", "p")
	check(false, "the same deletion seen twice")
	now = now.Add(expectationLife + 1)
	check(true, "waited long enough")
}

func TestReplicaSetPlanIsBounded(t *testing.T) {
	none := func() []*corev1.Pod { return nil }
	for _, c := range []struct{ want, have, create, remove int }{
		{3, 3, 0, 0}, {3, 1, 2, 0}, {0, 4, 0, 4}, {9000, 0, burstReplicas, 0}, {0, 700, 0, burstReplicas},
		{9000, 4000, 1000, 0}, {0, 4000, 0, 1000}, // not n*n/500 for n pods
	} {
		var pods []*corev1.Pod
		for i := range c.have {
			pods = append(pods, webPod(i, true))
		}
		plan := planReplicas(webReplicaSet(int32(c.want)), pods, none, time.Now())
		if got := fmt.Sprint(plan.create, len(plan.remove)); got != fmt.Sprint(c.create, c.remove) {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestReplicationController(t *testing.T) {
	key := api.ReplicationControllers.Key("default", "old")
	inBed(t, func(cfg Config) []runner { return []runner{newReplicationControllers(cfg)} }, func(b *bed) {
		three := int32(3)
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "old", Namespace: "default"}}
		template := webDeployment(3).Spec.Template
		rc.Spec.Replicas, rc.Spec.Selector, rc.Spec.Template = &three, template.Labels, &template
		orphan := webPod(1, true)
		orphan.UID, orphan.Status = "", corev1.PodStatus{}
		create(b, api.Pods, orphan)
		made := create(b, api.ReplicationControllers, rc)
		b.settle()
		for _, p := range b.pods() {
			if !metav1.IsControlledBy(p, made) {
				t.Errorf("%s is not controlled by %s", p.Name, made.Name)
			}
		}
		b.serve()
		status := func() corev1.ReplicationControllerStatus {
			rc, _ := get[*corev1.ReplicationController](b, key)
			return rc.Status
		}
		if s := status(); s.Replicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.FullyLabeledReplicas != 3 || s.ObservedGeneration != 1 {
			t.Errorf("status %+v", s)
		}
		before, _ := get[*corev1.ReplicationController](b, key)
		b.pass(time.Minute) // a status that says nothing new is not written again
		if after, _ := get[*corev1.ReplicationController](b, key); after.ResourceVersion != before.ResourceVersion {
			t.Error("the status was written without need")
		}
		update(b, key, "", func(rc *corev1.ReplicationController) { n := int32(1); rc.Spec.Replicas = &n })
		b.settle()
		b.serve()
		if n := len(b.pods()); n != 1 || status().Replicas != 1 {
			t.Errorf("%d pods after scaling to 1, status %+v", n, status())
		}
		if got := b.events("old"); !strings.Contains(got, successfulCreate) || !strings.Contains(got, successfulDelete) {
			t.Errorf("events: %s", got)
		}
	})
}

// taken is a client for which some names of pods are another's.
type taken struct {
	api.Client
	left atomic.Int32
}

func (c *taken) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if key.Resource == "pods" && c.left.Add(-1) >= 0 {
		return nil, apierrors.NewAlreadyExists(corev1.Resource("pods"), key.Name)
	}
	return c.Client.Create(ctx, key, obj, opts)
}

func TestReplicaSetGoesPastTakenNames(t *testing.T) {
	client := &taken{}
	client.left.Store(5)
	inBed(t, justReplicaSets, func(b *bed) {
		create(b, api.ReplicaSets, webReplicaSet(10))
		b.settle()
		if got := len(b.pods()); got != 10 {
			t.Errorf("%d pods at once, want 10", got)
		}
		if got := b.events("web"); strings.Contains(got, failedCreate) {
			t.Errorf("a name that was taken is nobody's trouble: %s", got)
		}
	}, func(cfg *Config) { client.Client, cfg.Client = cfg.Client, client })
}

// shrinking is a client that changes the ReplicaSet's size before so many
// pods are made.
type shrinking struct {
	api.Client
	left atomic.Int32
	to   int32
}

func (c *shrinking) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if key.Resource == "pods" && c.left.Add(-1) == 0 {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, c.to)
		if _, err := c.Client.Patch(ctx, api.ReplicaSets.Key("default", "web"), api.Patch{Type: types.MergePatchType, Data: patch}, api.PatchOptions{}); err != nil {
			return nil, err
		}
		<-time.After(time.Millisecond) // fake: until everybody has heard of it
	}
	return c.Client.Create(ctx, key, obj, opts)
}

// TestReplicaSetLooksUpDuringABurst: what is no longer wanted is not created,
// however many pods a round began with.
func TestReplicaSetLooksUpDuringABurst(t *testing.T) {
	client := &shrinking{to: 3}
	client.left.Store(10)
	inBed(t, justReplicaSets, func(b *bed) {
		create(b, api.ReplicaSets, webReplicaSet(400))
		b.pass(time.Second)
		if made := strings.Count(b.events("web"), successfulCreate); made == 0 {
			t.Error("no pod was created")
		}
		if left := client.left.Load(); left < 10-254 {
			t.Errorf("%d pods were created of a set that had become smaller at the tenth", 10-left)
		}
		if n := len(b.pods()); n != 3 {
			t.Errorf("%d pods in the end, want 3", n)
		}
	}, func(cfg *Config) { client.Client, cfg.Client = cfg.Client, client })
}
