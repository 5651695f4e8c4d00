package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func onlyNodes(cfg Config) []runner { return []runner{newNodeLifecycle(cfg)} }

func nodeKey(name string) api.Key { return api.Nodes.Key("", name) }

// podOn is a pod that runs on a node.
func podOn(name, node string, tolerations ...corev1.Toleration) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{NodeName: node, Tolerations: tolerations,
			Containers: []corev1.Container{{Name: "c", Image: "hello:v1"}}},
	}
}

// agent plays a node's agent.
type agent struct {
	b    *bed
	name string
}

func (b *bed) agent(name string) agent {
	create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	a := agent{b, name}
	a.report(corev1.ConditionTrue)
	b.settle()
	return a
}

func (a agent) report(ready corev1.ConditionStatus) {
	now := metav1.Now()
	update(a.b, nodeKey(a.name), "status", func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "KubeletReady",
			Message: "wherry is posting ready status", LastHeartbeatTime: now, LastTransitionTime: now}}
	})
}

func (a agent) renew() {
	a.b.t.Helper()
	key := api.Leases.Key(corev1.NamespaceNodeLease, a.name)
	now := metav1.NowMicro()
	if !a.b.exists(key) {
		create(a.b, api.Leases, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
			Spec: coordinationv1.LeaseSpec{RenewTime: &now}})
		return
	}
	update(a.b, key, "", func(l *coordinationv1.Lease) { l.Spec.RenewTime = &now })
}

// live renews the lease for a while.
func (a agent) live(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		a.renew()
		a.b.pass(10 * time.Second)
	}
}

func (b *bed) node(name string) *corev1.Node {
	b.t.Helper()
	n, ok := get[*corev1.Node](b, nodeKey(name))
	if !ok {
		b.t.Fatalf("node %s is gone", name)
	}
	return n
}

func taintsOf(n *corev1.Node) string {
	var out []string
	for _, t := range n.Spec.Taints {
		out = append(out, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestNodeIsTaintedUntilReady(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
		b.settle()
		if got := taintsOf(b.node("a")); got != "not-ready:NoSchedule" {
			t.Errorf("new node: %q", got)
		}
		a := agent{b, "a"}
		a.report(corev1.ConditionTrue)
		b.settle()
		if got := taintsOf(b.node("a")); got != "" {
			t.Errorf("ready node: %q", got)
		}
		update(b, nodeKey("a"), "", func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "own", Effect: corev1.TaintEffectNoSchedule})
		})
		b.settle()
		if got := taintsOf(b.node("a")); got != "own:NoSchedule unschedulable:NoSchedule" {
			t.Errorf("cordoned node: %q", got)
		}
		update(b, nodeKey("a"), "", func(n *corev1.Node) { n.Spec.Unschedulable = false })
		b.settle()
		if got := taintsOf(b.node("a")); got != "own:NoSchedule" {
			t.Errorf("uncordoned node: %q", got)
		}
	})
}

func TestSilentNodeBecomesUnknownAndReturns(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		a := b.agent("a")
		create(b, api.Pods, podOn("p", "a"))
		update(b, api.Pods.Key("default", "p"), "status", func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
		})
		create(b, api.Pods, podOn("done", "a"))
		update(b, api.Pods.Key("default", "done"), "status", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		a.live(5 * time.Minute)
		if got := conditionStatus(b.node("a"), corev1.NodeReady); got != corev1.ConditionTrue {
			t.Fatalf("a node that renews its lease is %s", got)
		}
		b.agent("other").live(50 * time.Second)
		n := b.node("a")
		ready := nodeCondition(n, corev1.NodeReady)
		if ready.Status != corev1.ConditionUnknown || ready.Reason != "NodeStatusUnknown" || ready.Message != "Kubelet stopped posting node status." {
			t.Errorf("silent node: %+v", ready)
		}
		if got := nodeCondition(n, corev1.NodeMemoryPressure); got == nil || got.Reason != "NodeStatusNeverUpdated" {
			t.Errorf("what was never reported: %+v", got)
		}
		if got := taintsOf(n); got != "unreachable:NoExecute unreachable:NoSchedule" {
			t.Errorf("taints %q", got)
		}
		if p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "p")); podReady(p) != corev1.ConditionFalse || p.Status.Phase != corev1.PodUnknown {
			t.Errorf("its pod counts as %s, ready %s", p.Status.Phase, podReady(p))
		}
		if p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "done")); p.Status.Phase != corev1.PodSucceeded {
			t.Errorf("a pod that had ended is %s", p.Status.Phase)
		}
		if got := b.events("a"); !strings.Contains(got, "NodeNotReady") {
			t.Errorf("events %q", got)
		}
		b.pass(10 * time.Minute)
		if got := conditionStatus(b.node("a"), corev1.NodeReady); got != corev1.ConditionUnknown {
			t.Errorf("still silent, but %s", got)
		}
		a.report(corev1.ConditionTrue)
		a.renew()
		b.settle()
		if got := taintsOf(b.node("a")); got != "" {
			t.Errorf("back, but %q", got)
		}
	})
}

func TestNodeThatReportsNotReady(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		a := b.agent("a")
		b.agent("other")
		create(b, api.Pods, podOn("p", "a"))
		update(b, api.Pods.Key("default", "p"), "status", func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
		})
		b.pass(5 * time.Second)
		a.report(corev1.ConditionFalse)
		b.settle()
		if got := taintsOf(b.node("a")); got != "not-ready:NoExecute not-ready:NoSchedule" {
			t.Errorf("taints %q", got)
		}
		p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "p"))
		if podReady(p) != corev1.ConditionFalse || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodUnknown {
			t.Errorf("pod: %s, ready %s, deleted %v", p.Status.Phase, podReady(p), p.DeletionTimestamp)
		}
	})
}

func podReady(p *corev1.Pod) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status
		}
	}
	return ""
}

func TestEvictionAfterToleration(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		a, other := b.agent("a"), b.agent("b")
		seconds := int64(100)
		stay := corev1.Toleration{Operator: corev1.TolerationOpExists}
		create(b, api.Pods, podOn("default-300", "a")) // admission gives it 300 s
		create(b, api.Pods, podOn("short", "a", corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists,
			Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}))
		create(b, api.Pods, podOn("stays", "a", stay))
		create(b, api.Pods, podOn("elsewhere", "b"))
		a.renew()
		leaving := func() string {
			var out []string
			for _, name := range []string{"default-300", "short", "stays", "elsewhere"} {
				p, ok := get[*corev1.Pod](b, api.Pods.Key("default", name))
				if !ok || p.DeletionTimestamp != nil {
					out = append(out, name)
				}
			}
			return strings.Join(out, " ")
		}
		other.live(120 * time.Second) // a has been unreachable for 80 s
		if got := leaving(); got != "" {
			t.Errorf("too early: %q", got)
		}
		other.live(30 * time.Second)
		if got := leaving(); got != "short" {
			t.Errorf("after 110 s: %q", got)
		}
		p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "short"))
		if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Reason == "DeletionByTaintManager"
		}) {
			t.Errorf("conditions %+v", p.Status.Conditions)
		}
		other.live(200 * time.Second)
		if got := leaving(); got != "default-300 short" {
			t.Errorf("after 310 s: %q", got)
		}
	})
}

func TestNoEvictionWhenNoNodeIsReady(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		b.agent("a")
		create(b, api.Pods, podOn("p", "a"))
		b.pass(20 * time.Minute)
		if p, ok := get[*corev1.Pod](b, api.Pods.Key("default", "p")); !ok || p.DeletionTimestamp != nil {
			t.Error("the pod of the only node was evicted")
		}
	})
}

func TestTaintOfUserEvictsAtOnce(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		b.agent("a")
		create(b, api.Pods, podOn("goes", "a"))
		create(b, api.Pods, podOn("stays", "a", corev1.Toleration{Key: "drain", Operator: corev1.TolerationOpExists}))
		update(b, nodeKey("a"), "", func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "drain", Effect: corev1.TaintEffectNoExecute})
		})
		b.settle()
		for name, want := range map[string]bool{"goes": true, "stays": false} {
			p, ok := get[*corev1.Pod](b, api.Pods.Key("default", name))
			if gone := !ok || p.DeletionTimestamp != nil; gone != want {
				t.Errorf("%s leaves: %v", name, gone)
			}
		}
	})
}

func TestPodsOfDeletedNodeAreCollected(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		b.agent("a")
		create(b, api.Pods, podOn("p", "a"))
		b.delete(nodeKey("a"), "")
		b.pass(39 * time.Second)
		if !b.exists(api.Pods.Key("default", "p")) {
			t.Error("collected at once")
		}
		b.pass(2 * time.Second)
		if b.exists(api.Pods.Key("default", "p")) {
			t.Error("the pod of a node that is gone is left")
		}
	})
}

// A node that somebody declares to be off for good loses the pods that are to
// be deleted, and no others; one that is ready ends them itself.
func TestOutOfServiceNodeLosesItsPods(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		b.agent("off")
		on := b.agent("on")
		stay := corev1.Toleration{Operator: corev1.TolerationOpExists}
		for _, name := range []string{"off", "on"} {
			create(b, api.Pods, podOn(name+"-goes", name))
			create(b, api.Pods, podOn(name+"-stays", name, stay))
		}
		on.live(50 * time.Second)
		for _, name := range []string{"off", "on"} {
			update(b, nodeKey(name), "", func(n *corev1.Node) {
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})
			})
		}
		b.settle()
		if got := b.podNames(); got != "off-stays on-goes on-stays" {
			t.Errorf("pods that are left: %q", got)
		}
		if p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "on-goes")); p.DeletionTimestamp == nil {
			t.Error("the taint evicts nothing from a node that is ready")
		}
	})
}

func TestNodeThatReturnsKeepsItsPods(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		b.agent("a")
		create(b, api.Pods, podOn("p", "a"))
		b.delete(nodeKey("a"), "")
		b.pass(20 * time.Second)
		b.agent("a").live(2 * time.Minute)
		if !b.exists(api.Pods.Key("default", "p")) {
			t.Error("collected although the node came back")
		}
	})
}

func TestEvictionDue(t *testing.T) {
	now := time.Unix(1000, 0)
	added := metav1.NewTime(now.Add(-10 * time.Second))
	taint := func(key string, at *metav1.Time) corev1.Taint {
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: at}
	}
	limit := func(key string, seconds int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds}
	}
	for _, tt := range []struct {
		name   string
		taints []corev1.Taint
		tol    []corev1.Toleration
		want   time.Duration // from now
		never  bool
	}{
		{"no taint", nil, nil, 0, true},
		{"NoSchedule does not evict", []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoSchedule}}, nil, 0, true},
		{"not tolerated", []corev1.Taint{taint("x", &added)}, nil, -10 * time.Second, false},
		{"without a time it begins now", []corev1.Taint{taint("x", nil)}, []corev1.Toleration{limit("x", 30)}, 30 * time.Second, false},
		{"limited", []corev1.Taint{taint("x", &added)}, []corev1.Toleration{limit("x", 30)}, 20 * time.Second, false},
		{"the shorter limit counts", []corev1.Taint{taint("x", &added)}, []corev1.Toleration{limit("x", 30), limit("", 15)}, 5 * time.Second, false},
		{"the earlier taint counts", []corev1.Taint{taint("x", nil), taint("y", &added)}, []corev1.Toleration{limit("x", 30), limit("y", 30)}, 20 * time.Second, false},
		{"for ever", []corev1.Taint{taint("x", &added)}, []corev1.Toleration{{Key: "x", Operator: corev1.TolerationOpExists}}, 0, true},
		{"negative is at once", []corev1.Taint{taint("x", nil)}, []corev1.Toleration{limit("x", -5)}, 0, false},
		{"another value", []corev1.Taint{taint("x", nil)}, []corev1.Toleration{{Key: "x", Value: "v"}}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			due, ok := evictionDue(podOn("p", "n", tt.tol...), tt.taints, now)
			if ok == tt.never || ok && due.Sub(now) != tt.want {
				t.Errorf("due in %v, %v", due.Sub(now), ok)
			}
		})
	}
}
