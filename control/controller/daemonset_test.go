package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
)

func daemonLoops(cfg Config) []runner { return []runner{newDaemonSets(cfg)} }

var daemonKey = api.DaemonSets.Key("default", "agent")

func agentSet(change func(*appsv1.DaemonSetSpec)) *appsv1.DaemonSet {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "default"}}
	ds.Spec = appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "agent:v1"}}},
		},
	}
	change(&ds.Spec)
	return ds
}

func asItIs(*appsv1.DaemonSetSpec) {}

func surging(surge, lack int32) func(*appsv1.DaemonSetSpec) {
	return func(s *appsv1.DaemonSetSpec) {
		a, b := intstr.FromInt32(surge), intstr.FromInt32(lack)
		s.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: &a, MaxUnavailable: &b}}
	}
}

func (b *bed) addNode(name string, taints ...corev1.Taint) {
	b.t.Helper()
	create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}, Spec: corev1.NodeSpec{Taints: taints}})
}

func (b *bed) daemons() *appsv1.DaemonSet {
	b.t.Helper()
	ds, ok := get[*appsv1.DaemonSet](b, daemonKey)
	if !ok {
		b.t.Fatal("the daemon set is gone")
	}
	return ds
}

// bindAll plays the scheduler for pods that name their node.
func (b *bed) bindAll() {
	b.t.Helper()
	for _, p := range b.pods() {
		if p.Spec.NodeName != "" {
			continue
		}
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace}, Target: corev1.ObjectReference{Kind: "Node", Name: targetOf(p)}}
		if _, err := b.api.Create(b.ctx, api.Pods.KeyOf(p), binding, api.CreateOptions{Subresource: "binding"}); err != nil &&
			!apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // the controller works meanwhile
			b.t.Fatal(err)
		}
	}
	b.settle()
}

// onNodes is the pods by node: the tag of the image, a star when ready, a
// minus when ending.
func (b *bed) onNodes() string {
	b.t.Helper()
	var out []string
	for _, p := range b.pods() {
		_, tag, _ := strings.Cut(p.Spec.Containers[0].Image, ":")
		mark := ""
		if isReady(p) {
			mark = "*"
		}
		if p.DeletionTimestamp != nil {
			mark = "-"
		}
		out = append(out, targetOf(p)+":"+tag+mark)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (b *bed) wantNodes(want string) {
	b.t.Helper()
	if got := b.onNodes(); got != want {
		b.t.Fatalf("pods are %q, want %q", got, want)
	}
}

func (b *bed) setAgent(tag string) {
	b.t.Helper()
	update(b, daemonKey, "", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "agent:" + tag })
	b.settle()
}

// serveOn binds and serves the pods of a node.
func (b *bed) serveOn(node string) {
	b.t.Helper()
	b.bindAll()
	for _, p := range b.pods() {
		if targetOf(p) == node {
			b.servePod(p)
		}
	}
	b.settle()
}

func (b *bed) serveDaemons() {
	b.t.Helper()
	for range 15 {
		b.bindAll()
		b.serve()
		b.pass(time.Second)
	}
}

func TestDaemonSetFollowsNodes(t *testing.T) {
	inBed(t, daemonLoops, func(b *bed) {
		b.addNode("n1")
		b.addNode("n2", corev1.Taint{Key: "only", Value: "others", Effect: corev1.TaintEffectNoSchedule})
		b.addNode("n3", corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
		create(b, api.DaemonSets, agentSet(asItIs))
		b.settle()
		b.wantNodes("n1:v1 n3:v1")
		p := b.pods()[0]
		if p.Spec.NodeName != "" || p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == "" || len(p.Spec.Tolerations) < 6 {
			t.Errorf("the pod is not for the scheduler: %+v %v", p.Spec, p.Labels)
		}
		b.serveDaemons()
		if s := b.daemons().Status; s.DesiredNumberScheduled != 2 || s.CurrentNumberScheduled != 2 || s.NumberReady != 2 ||
			s.NumberAvailable != 2 || s.UpdatedNumberScheduled != 2 || s.NumberUnavailable != 0 || s.NumberMisscheduled != 0 {
			t.Errorf("status %+v", s)
		}
		b.addNode("n4")
		b.settle()
		b.serveDaemons()
		b.wantNodes("n1:v1* n3:v1* n4:v1*")
		taint := func(node string, effect corev1.TaintEffect) {
			update(b, api.Nodes.Key("", node), "", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "only", Value: "x", Effect: effect}} })
			b.settle()
			b.serveDaemons()
		}
		taint("n1", corev1.TaintEffectNoSchedule) // keeps what is there
		b.wantNodes("n1:v1* n3:v1* n4:v1*")
		if s := b.daemons().Status; s.NumberMisscheduled != 1 || s.DesiredNumberScheduled != 2 {
			t.Errorf("status %+v", s)
		}
		taint("n1", corev1.TaintEffectNoExecute)
		b.wantNodes("n3:v1* n4:v1*")
		update(b, daemonKey, "", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.NodeSelector = map[string]string{"name": "n4"} })
		b.settle()
		b.serveDaemons()
		b.wantNodes("n4:v1*")
	})
}

func TestDaemonSetRollsWithMaxUnavailable(t *testing.T) {
	inBed(t, daemonLoops, func(b *bed) {
		for i := range 4 {
			b.addNode(fmt.Sprint("n", i))
		}
		create(b, api.DaemonSets, agentSet(surging(0, 2)))
		b.settle()
		b.serveDaemons()
		b.setAgent("v2")
		b.bindAll()
		b.serve() // the two that were chosen end
		b.wantNodes("n0:v2 n1:v2 n2:v1* n3:v1*")
		b.pass(time.Minute)
		b.wantNodes("n0:v2 n1:v2 n2:v1* n3:v1*")
		b.serveDaemons()
		b.wantNodes("n0:v2* n1:v2* n2:v2* n3:v2*")
	})
}

func TestDaemonSetRollsWithSurge(t *testing.T) {
	inBed(t, daemonLoops, func(b *bed) {
		for i := range 3 {
			b.addNode(fmt.Sprint("n", i))
		}
		create(b, api.DaemonSets, agentSet(surging(1, 0)))
		b.settle()
		b.serveDaemons()
		b.setAgent("v2")
		b.wantNodes("n0:v1* n0:v2 n1:v1* n2:v1*")
		b.pass(time.Minute)
		b.wantNodes("n0:v1* n0:v2 n1:v1* n2:v1*")
		b.serveOn("n0")
		b.wantNodes("n0:v1- n0:v2* n1:v1* n1:v2 n2:v1*")
		b.serveDaemons()
		b.wantNodes("n0:v2* n1:v2* n2:v2*")
	})
}

func TestDaemonSetHistoryAndOnDelete(t *testing.T) {
	inBed(t, daemonLoops, func(b *bed) {
		b.addNode("n0")
		create(b, api.DaemonSets, agentSet(func(s *appsv1.DaemonSetSpec) {
			limit := int32(1)
			s.RevisionHistoryLimit = &limit
		}))
		for i := range 4 {
			b.setAgent(fmt.Sprint("v", i))
			b.serveDaemons()
		}
		all := b.revisions()
		if len(all) != 2 {
			t.Fatalf("%d revisions, want the current one and one of history", len(all))
		}
		// What kubectl rollout undo does.
		if _, err := b.api.Patch(b.ctx, daemonKey, api.Patch{Type: "application/strategic-merge-patch+json", Data: all[0].Data.Raw}, api.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		b.serveDaemons()
		b.wantNodes("n0:v2*")
		update(b, daemonKey, "", func(d *appsv1.DaemonSet) {
			d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		})
		b.setAgent("v9")
		b.serveDaemons()
		b.wantNodes("n0:v2*")
		b.delete(api.Pods.KeyOf(b.pods()[0]), "")
		b.serveDaemons()
		b.wantNodes("n0:v9*")
	})
}

func TestDaemonSetWaitsForFailingNodes(t *testing.T) {
	inBed(t, daemonLoops, func(b *bed) {
		b.addNode("n0")
		create(b, api.DaemonSets, agentSet(asItIs))
		b.settle()
		names := map[string]bool{}
		for range 120 { // two minutes in which the node refuses each pod at once
			b.bindAll()
			for _, p := range b.running() {
				names[p.Name] = true
				b.end(p, 1)
			}
			b.pass(time.Second)
		}
		if n := len(names); n < 4 || n > 10 {
			t.Errorf("%d pods in two minutes, want a few, further and further apart", n)
		}
		if got := b.events("agent"); !strings.Contains(got, "FailedDaemonPod") {
			t.Errorf("events: %s", got)
		}
	})
}

// Lost answers, late informers and restarts: never two pods on a node.
func TestDaemonSetNeverDoubles(t *testing.T) {
	for seed := range uint64(10) {
		client := newFaulty(seed, 0.25)
		client.lag = 40 * time.Millisecond
		inBed(t, daemonLoops, func(b *bed) {
			for i := range 6 {
				b.addNode(fmt.Sprint("n", i))
			}
			b.onPods(func(_, _ *corev1.Pod, all map[string]*corev1.Pod) {
				on := map[string]int{}
				for _, p := range all {
					if on[targetOf(p)]++; on[targetOf(p)] > 1 {
						t.Errorf("seed %d: two pods on %s", seed, targetOf(p))
					}
				}
			})
			create(b, api.DaemonSets, agentSet(asItIs))
			for i := range 10 {
				b.pass(300 * time.Millisecond)
				if i%3 == 2 {
					b.crash()
					b.start()
				}
				b.setAgent(fmt.Sprint("v", i))
				b.bindAll()
				b.serve()
			}
			client.heal()
			for range 4 {
				b.serveDaemons()
			}
			b.wantNodes("n0:v9* n1:v9* n2:v9* n3:v9* n4:v9* n5:v9*")
		}, client.under)
	}
}
