package controller

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

func workloads(cfg Config) []runner {
	return []runner{newDeployments(cfg), newReplicaSets(cfg)}
}

func webDeployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "hello:v1"}}},
			},
		},
	}
}

var webKey = api.Deployments.Key("default", "web")

func (b *bed) pods() []*corev1.Pod {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.Pods.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return reconcile.As[*corev1.Pod](list.Items)
}

func (b *bed) replicaSets() []*appsv1.ReplicaSet {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.ReplicaSets.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	out := reconcile.As[*appsv1.ReplicaSet](list.Items)
	slices.SortFunc(out, func(a, c *appsv1.ReplicaSet) int { return int(revisionOf(a) - revisionOf(c)) })
	return out
}

// serve plays the agent: pods run and are ready, terminating and failed ones
// go.
func (b *bed) serve() {
	b.t.Helper()
	for _, p := range b.pods() {
		b.servePod(p)
	}
	b.settle()
}

func (b *bed) servePod(p *corev1.Pod) {
	b.t.Helper()
	if p.DeletionTimestamp != nil || podFinished(p) {
		zero := int64(0)
		if _, err := b.api.Delete(b.ctx, api.Pods.KeyOf(p), api.DeleteOptions{GracePeriodSeconds: &zero}); err != nil && !apierrors.IsNotFound(err) {
			b.t.Fatal(err)
		}
	} else if !isReady(p) {
		ready := p.DeepCopy()
		ready.Status.Phase, ready.Status.StartTime = corev1.PodRunning, new(metav1.Now())
		ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		b.report(ready)
	}
}

// report writes a pod's status. The controllers work meanwhile: one that is
// gone or changed is met again.
func (b *bed) report(pod *corev1.Pod) {
	b.t.Helper()
	if _, err := b.api.Update(b.ctx, api.Pods.KeyOf(pod), pod, api.UpdateOptions{Subresource: "status"}); err != nil &&
		!apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		b.t.Fatal(err)
	}
}

func (b *bed) web() *appsv1.Deployment {
	b.t.Helper()
	d, ok := get[*appsv1.Deployment](b, webKey)
	if !ok {
		b.t.Fatal("the deployment is gone")
	}
	return d
}

func (b *bed) progressing() string {
	b.t.Helper()
	c := conditionOf(&b.web().Status, appsv1.DeploymentProgressing)
	if c == nil {
		return ""
	}
	return c.Reason
}

// rollOut serves until the deployment is complete.
func (b *bed) rollOut() {
	b.t.Helper()
	for range 50 {
		b.serve()
		if d := b.web(); isComplete(d, &d.Status) && int32(len(b.pods())) == wanted(d) {
			return
		}
		b.pass(time.Second)
	}
	b.t.Fatalf("the rollout does not end: %+v", b.web().Status)
}

func (b *bed) setImage(image string) {
	b.t.Helper()
	update(b, webKey, "", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
	b.settle()
}

func TestDeploymentLife(t *testing.T) {
	inBed(t, workloads, func(b *bed) {
		create(b, api.Deployments, webDeployment(3))
		b.settle()
		if got := len(b.pods()); got != 3 {
			t.Fatalf("%d pods, want 3", got)
		}
		if got := b.progressing(); got != reasonUpdated && got != reasonCreated {
			t.Errorf("Progressing is %q after the start", got)
		}
		b.rollOut()
		if d := b.web(); b.progressing() != reasonComplete || d.Annotations[revisionAnnotation] != "1" || d.Status.ObservedGeneration != 1 || d.Generation != 1 {
			t.Errorf("complete deployment: %s, %v, %+v", b.progressing(), d.Annotations, d.Status)
		}
		update(b, webKey, "", func(d *appsv1.Deployment) { n := int32(5); d.Spec.Replicas = &n })
		b.settle()
		b.rollOut()
		update(b, webKey, "", func(d *appsv1.Deployment) { n := int32(2); d.Spec.Replicas = &n })
		b.settle()
		b.rollOut()

		b.setImage("hello:v2")
		b.rollOut()
		sets := b.replicaSets()
		if len(sets) != 2 || replicasOf(sets[0]) != 0 || replicasOf(sets[1]) != 2 || revisionOf(sets[1]) != 2 {
			t.Fatalf("after an update: %d sets", len(sets))
		}
		first := sets[0].Name
		b.setImage("hello:v1")
		b.rollOut()
		sets = b.replicaSets()
		if len(sets) != 2 || sets[1].Name != first || revisionOf(sets[1]) != 3 || sets[1].Annotations[revisionHistoryAnnotation] != "1" {
			t.Errorf("a rollback must reuse %s as revision 3, have %s with %v", first, sets[1].Name, sets[1].Annotations)
		}
		if got := b.web().Annotations[revisionAnnotation]; got != "3" {
			t.Errorf("deployment is at revision %s, want 3", got)
		}
		if got := b.events("web"); !strings.Contains(got, reasonScaled) {
			t.Errorf("events of the deployment: %s", got)
		}
	})
}

func TestDeploymentReplacesDeletedPod(t *testing.T) {
	inBed(t, workloads, func(b *bed) {
		create(b, api.Deployments, webDeployment(3))
		b.settle()
		b.rollOut()
		b.delete(api.Pods.KeyOf(b.pods()[0]), "")
		b.settle()
		b.rollOut()
	})
}

func TestRecreateNeverMixes(t *testing.T) {
	inBed(t, workloads, func(b *bed) {
		d := webDeployment(3)
		d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
		d.Spec.Template.Spec.NodeName = "n1" // only bound pods take time to end
		create(b, api.Deployments, d)
		b.settle()
		b.rollOut()
		b.setImage("hello:v2")
		for _, p := range b.pods() {
			if p.Spec.Containers[0].Image == "hello:v2" {
				t.Fatal("a new pod was started before the last old one was gone")
			}
		}
		b.rollOut()
	})
}

func TestProgressDeadlineAndPause(t *testing.T) {
	inBed(t, workloads, func(b *bed) {
		d := webDeployment(1)
		deadline := int32(30)
		d.Spec.ProgressDeadlineSeconds = &deadline
		create(b, api.Deployments, d)
		b.settle()
		b.pass(20 * time.Second)
		if got := b.progressing(); got == reasonTimedOut {
			t.Fatal("timed out too early")
		}
		b.pass(20 * time.Second)
		if got := b.progressing(); got != reasonTimedOut {
			t.Fatalf("Progressing is %s after the deadline", got)
		}
		b.rollOut()
		update(b, webKey, "", func(d *appsv1.Deployment) { d.Spec.Paused = true })
		b.setImage("hello:v2")
		if got := b.progressing(); got != reasonPaused || len(b.replicaSets()) != 1 {
			t.Errorf("paused: %s, %d sets", got, len(b.replicaSets()))
		}
		update(b, webKey, "", func(d *appsv1.Deployment) { d.Spec.Paused = false })
		b.settle()
		b.rollOut()
	})
}

// Wherever in the start of a rollout the controller dies: the next one must not
// take the end of the last rollout for the end of this one.
func TestDeadlineRunsWhateverWasLost(t *testing.T) {
	for crashAt := range 8 {
		client := &crashing{}
		inBed(t, workloads, func(b *bed) {
			d := webDeployment(1)
			deadline := int32(30)
			d.Spec.ProgressDeadlineSeconds = &deadline
			create(b, api.Deployments, d)
			b.settle()
			b.rollOut()
			client.dieAfter(crashAt + 1)
			b.setImage("nothere:v1")
			if client.crashed() {
				b.crash()
				b.start()
			}
			client.dieAfter(0)
			b.pass(2 * time.Minute)
			if got := b.progressing(); got != reasonTimedOut {
				t.Errorf("died after %d writes: Progressing is %s after the deadline", crashAt+1, got)
			}
			b.setImage("hello:v1")
			b.rollOut()
			if got := b.progressing(); got != reasonComplete {
				t.Errorf("died after %d writes: Progressing is %s after the undo", crashAt+1, got)
			}
		}, func(cfg *Config) { client.Client, cfg.Client = cfg.Client, client })
	}
}

func TestRevisionHistoryLimit(t *testing.T) {
	inBed(t, workloads, func(b *bed) {
		d := webDeployment(1)
		limit := int32(1)
		d.Spec.RevisionHistoryLimit = &limit
		create(b, api.Deployments, d)
		for i := range 4 {
			b.setImage(fmt.Sprintf("hello:%d", i))
			b.rollOut()
		}
		b.pass(time.Second)
		if got := len(b.replicaSets()); got != 2 {
			t.Errorf("%d replica sets, want the current one and one of history", got)
		}
	})
}

// TestPlansKeepTheMargins drives the pure plans with random availability and
// random changes of size, and checks after every step what a rolling update
// promises.
func TestPlansKeepTheMargins(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := webDeployment(rnd.Int32N(20))
		surge, lack := intstr.FromString(fmt.Sprintf("%d%%", rnd.IntN(101))), intstr.FromInt32(rnd.Int32N(6))
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &lack}
		set := func(n int, size int32) *appsv1.ReplicaSet {
			rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("rs", n), UID: types.UID(fmt.Sprint(n)),
				CreationTimestamp: metav1.Unix(int64(n), 0), Annotations: map[string]string{}}}
			rs.Spec.Replicas, rs.Status.Replicas, rs.Status.AvailableReplicas = &size, size, size
			setSizes(rs.Annotations, d)
			return rs
		}
		h := history{current: set(3, 0), old: []*appsv1.ReplicaSet{set(1, wanted(d)), set(2, 0)}}
		_, missing := margins(d)
		for step := 0; ; step++ {
			before := availableReplicas(h.all())
			for _, p := range planRollout(d, h) {
				p.rs.Spec.Replicas = &p.to
				// Deleted pods are the unavailable ones first.
				p.rs.Status.AvailableReplicas = min(p.rs.Status.AvailableReplicas, p.to)
			}
			after := availableReplicas(h.all())
			if floor := wanted(d) - missing; after < floor && after < before {
				t.Fatalf("seed %d step %d: took available pods from %d to %d, the minimum is %d", seed, step, before, after, floor)
			}
			if all := specReplicas(h.all()); all > maxTotal(d) {
				t.Fatalf("seed %d step %d: %d pods, at most %d allowed", seed, step, all, maxTotal(d))
			}
			if replicasOf(h.current) == wanted(d) && specReplicas(h.old) == 0 {
				break
			}
			if step > 500 {
				t.Fatalf("seed %d: the rollout does not end", seed)
			}
			for _, rs := range h.all() { // some pods become available
				rs.Status.Replicas = replicasOf(rs)
				rs.Status.AvailableReplicas += rnd.Int32N(replicasOf(rs) - rs.Status.AvailableReplicas + 1)
			}
		}
	}
}

func TestProportionalScaling(t *testing.T) {
	d := webDeployment(10)
	surge, lack := intstr.FromInt32(3), intstr.FromInt32(2)
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &lack}
	set := func(name string, at int64, size int32) *appsv1.ReplicaSet {
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(at, 0), Annotations: map[string]string{}}}
		rs.Spec.Replicas = &size
		setSizes(rs.Annotations, d)
		return rs
	}
	// The example of the Kubernetes documentation: 8 + 5, scaled from 10 to 15.
	h := history{current: set("new", 2, 5), old: []*appsv1.ReplicaSet{set("old", 1, 8)}}
	to := int32(15)
	d.Spec.Replicas = &to
	if !isScaling(d, h) {
		t.Fatal("the change of size was not seen")
	}
	got := map[string]int32{}
	for _, p := range planScale(d, h) {
		got[p.rs.Name] = p.to
	}
	if got["old"] != 11 || got["new"] != 7 {
		t.Errorf("scaled to %v, want old 11 and new 7", got)
	}
}

func TestMargins(t *testing.T) {
	for _, c := range []struct {
		replicas    int32
		surge, lack string
		wantSurge   int32
		wantLack    int32
	}{
		{4, "25%", "25%", 1, 1}, {10, "25%", "25%", 3, 2}, {1, "25%", "25%", 1, 0},
		{5, "0", "0%", 0, 1}, {3, "1", "9", 1, 3}, {0, "25%", "25%", 0, 0}, {3, "100%", "0", 3, 0},
	} {
		d := webDeployment(c.replicas)
		surge, lack := intstr.Parse(c.surge), intstr.Parse(c.lack)
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &lack}
		if s, l := margins(d); s != c.wantSurge || l != c.wantLack {
			t.Errorf("%+v: got %d and %d", c, s, l)
		}
	}
}
