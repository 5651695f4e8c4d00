package scheduler

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func quantities(text string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, part := range strings.Fields(text) {
		name, q, _ := strings.Cut(part, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return list
}

// node takes its allocatable as "cpu=4 memory=8Gi pods=110".
func node(name, allocatable string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status:     corev1.NodeStatus{Allocatable: quantities(allocatable)},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

const roomyNode = "cpu=4 memory=8Gi ephemeral-storage=10Gi pods=110"

func pod(name, requests string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{SchedulerName: Name, Containers: []corev1.Container{{
			Name: "c", Image: "hello:v1", Resources: corev1.ResourceRequirements{Requests: quantities(requests)}}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func taint(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func label(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func tolerate(t corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, t) }
}

func onHostPort(ip string, port int32, protocol corev1.Protocol) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports,
			corev1.ContainerPort{HostIP: ip, HostPort: port, ContainerPort: port, Protocol: protocol})
	}
}

func ownedBy(uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: uid, UID: types.UID(uid), Controller: &yes}}
	}
}

func affinity(a corev1.NodeAffinity) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &a} }
}

func in(key string, values ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
		{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}}}
}

func snapshotOf(nodes ...*corev1.Node) *Snapshot {
	s := NewSnapshot()
	for _, n := range nodes {
		s.SetNode(n)
	}
	return s
}

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestPickFilters(t *testing.T) {
	roomy := func(name string, change ...func(*corev1.Node)) *corev1.Node { return node(name, roomyNode, change...) }
	tests := []struct {
		name  string
		nodes []*corev1.Node
		there map[string]*corev1.Pod // by node
		pod   *corev1.Pod
		want  string // node, or the reasons
	}{
		{"no nodes", nil, nil, pod("p", ""), "no nodes available to schedule pods"},
		{"one node", []*corev1.Node{roomy("a")}, nil, pod("p", "cpu=1"), "a"},
		{"node without allocatable", []*corev1.Node{node("a", "")}, nil, pod("p", ""), "0/1 nodes are available: 1 Too many pods."},
		{"mixed reasons", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectNoSchedule)), node("b", "cpu=1 memory=1Gi pods=9"), node("c", "cpu=1 memory=8Gi pods=9")},
			nil, pod("p", "cpu=2 memory=2Gi"),
			"0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {x: y}, 2 Insufficient cpu."},
		{"cordon", []*corev1.Node{roomy("a", cordoned)}, nil, pod("p", ""), "0/1 nodes are available: 1 node(s) were unschedulable."},
		{"cordon tolerated", []*corev1.Node{roomy("a", cordoned)}, nil,
			pod("p", "", tolerate(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists})), "a"},
		{"not ready", []*corev1.Node{roomy("a", taint(corev1.TaintNodeNotReady, "", corev1.TaintEffectNoExecute))}, nil, pod("p", ""),
			"0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }."},
		{"toleration by value", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectNoSchedule))}, nil,
			pod("p", "", tolerate(corev1.Toleration{Key: "x", Value: "y", Effect: corev1.TaintEffectNoSchedule})), "a"},
		{"toleration of another value", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectNoSchedule))}, nil,
			pod("p", "", tolerate(corev1.Toleration{Key: "x", Value: "z"})), "0/1 nodes are available: 1 node(s) had untolerated taint {x: y}."},
		{"toleration of another effect", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectNoSchedule))}, nil,
			pod("p", "", tolerate(corev1.Toleration{Key: "x", Value: "y", Effect: corev1.TaintEffectNoExecute})),
			"0/1 nodes are available: 1 node(s) had untolerated taint {x: y}."},
		{"toleration of everything", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectNoExecute))}, nil,
			pod("p", "", tolerate(corev1.Toleration{Operator: corev1.TolerationOpExists})), "a"},
		{"preferred taint repels softly", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectPreferNoSchedule)), roomy("b")}, nil, pod("p", ""), "b"},
		{"preferred taint alone", []*corev1.Node{roomy("a", taint("x", "y", corev1.TaintEffectPreferNoSchedule))}, nil, pod("p", ""), "a"},
		{"nodeSelector", []*corev1.Node{roomy("a"), roomy("b", label("disk", "ssd"))}, nil,
			pod("p", "", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), "b"},
		{"nodeSelector fits none", []*corev1.Node{roomy("a")}, nil,
			pod("p", "", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{"required affinity", []*corev1.Node{roomy("a", label("zone", "1")), roomy("b", label("zone", "2"))}, nil,
			pod("p", "", affinity(corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{in("zone", "3"), in("zone", "2")}}})), "b"},
		{"affinity by name field", []*corev1.Node{roomy("a"), roomy("b")}, nil,
			pod("p", "", affinity(corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
					{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}}}})), "b"},
		{"preferred affinity", []*corev1.Node{roomy("a"), roomy("b", label("zone", "2")), roomy("c")}, nil,
			pod("p", "", affinity(corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 10, Preference: in("zone", "2")}}})), "b"},
		{"nodeName", []*corev1.Node{roomy("a"), roomy("b")}, nil, pod("p", "", func(p *corev1.Pod) { p.Spec.NodeName = "b" }), "b"},
		{"nodeName of nobody", []*corev1.Node{roomy("a")}, nil, pod("p", "", func(p *corev1.Pod) { p.Spec.NodeName = "z" }),
			"0/1 nodes are available: 1 node(s) didn't match the requested node name."},
		{"host port taken", []*corev1.Node{roomy("a")}, map[string]*corev1.Pod{"a": pod("q", "", onHostPort("", 80, ""))},
			pod("p", "", onHostPort("127.0.0.1", 80, corev1.ProtocolTCP)),
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{"host port of another address", []*corev1.Node{roomy("a")}, map[string]*corev1.Pod{"a": pod("q", "", onHostPort("127.0.0.2", 80, ""))},
			pod("p", "", onHostPort("127.0.0.1", 80, "")), "a"},
		{"host port of another protocol", []*corev1.Node{roomy("a")}, map[string]*corev1.Pod{"a": pod("q", "", onHostPort("", 80, corev1.ProtocolUDP))},
			pod("p", "", onHostPort("", 80, "")), "a"},
		{"too many pods", []*corev1.Node{node("a", "cpu=4 memory=8Gi pods=1")}, map[string]*corev1.Pod{"a": pod("q", "")}, pod("p", ""),
			"0/1 nodes are available: 1 Too many pods."},
		{"storage", []*corev1.Node{roomy("a")}, nil, pod("p", "ephemeral-storage=11Gi"), "0/1 nodes are available: 1 Insufficient ephemeral-storage."},
		{"extended resource", []*corev1.Node{roomy("a"), node("b", roomyNode+" example.com/gpu=1")},
			map[string]*corev1.Pod{"b": pod("q", "example.com/gpu=1")}, pod("p", "example.com/gpu=1"),
			"0/2 nodes are available: 2 Insufficient example.com/gpu."},
		{"requests nothing on a full node", []*corev1.Node{node("a", "cpu=1 memory=1Gi pods=9")}, map[string]*corev1.Pod{"a": pod("q", "cpu=1 memory=1Gi")}, pod("p", ""), "a"},
		{"exact fit", []*corev1.Node{node("a", "cpu=1 memory=1Gi pods=9")}, map[string]*corev1.Pod{"a": pod("q", "cpu=400m")}, pod("p", "cpu=600m memory=1Gi"), "a"},
		{"least allocated", []*corev1.Node{roomy("a"), roomy("b")}, map[string]*corev1.Pod{"a": pod("q", "cpu=2 memory=4Gi")}, pod("p", "cpu=1 memory=2Gi"), "b"},
		{"pods that request nothing count", []*corev1.Node{roomy("a"), roomy("b")}, map[string]*corev1.Pod{"a": pod("q", "")}, pod("p", ""), "b"},
		{"pods of one owner spread", []*corev1.Node{node("a", "cpu=64 memory=128Gi pods=110"), roomy("b")},
			map[string]*corev1.Pod{"a": pod("q", "", ownedBy("rs"))}, pod("p", "", ownedBy("rs")), "b"},
		{"init containers need their peak", []*corev1.Node{roomy("a")}, nil, pod("p", "cpu=1", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: quantities("cpu=5")}}}
		}), "0/1 nodes are available: 1 Insufficient cpu."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshotOf(tt.nodes...)
			for name, p := range tt.there {
				s.AddPod(p, name)
			}
			got, why := Pick(tt.pod, s, DefaultProfile(), random())
			if got == "" {
				got = why.String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPickIsFairAmongEquals(t *testing.T) {
	s := snapshotOf(node("a", roomyNode), node("b", roomyNode), node("c", roomyNode))
	counts, r := map[string]int{}, random()
	for range 3000 {
		name, _ := Pick(pod("p", ""), s, DefaultProfile(), r)
		counts[name]++
	}
	for name, n := range counts {
		if n < 900 || n > 1100 {
			t.Errorf("%s got %d of 3000", name, n)
		}
	}
}

func TestPickSpreadsEvenly(t *testing.T) {
	s := snapshotOf(node("a", "cpu=4 memory=8Gi pods=100"), node("b", "cpu=32 memory=64Gi pods=100"), node("c", "cpu=8 memory=16Gi pods=100"))
	counts := map[string]int{}
	for i := range 30 {
		p := pod(fmt.Sprint(i), "cpu=10m memory=16Mi", ownedBy("rs"))
		name, _ := Pick(p, s, DefaultProfile(), random())
		s.AddPod(p, name)
		counts[name]++
	}
	for name, n := range counts {
		if n < 8 || n > 12 {
			t.Errorf("%s has %d of 30", name, n)
		}
	}
}

func TestSnapshotForgets(t *testing.T) {
	s := snapshotOf(node("a", roomyNode), node("b", roomyNode))
	p := pod("p", "cpu=3 example.com/x=1", ownedBy("rs"), onHostPort("", 80, ""))
	s.AddPod(p, "a")
	s.AddPod(p, "b") // moves
	if on, _ := s.NodeOf(p.UID); on != "b" || len(s.byName["a"].pods) != 0 || s.byName["a"].used.cpu != 0 {
		t.Error("pod did not move")
	}
	s.RemoveNode("b")
	if got := s.Nodes(); len(got) != 1 || got[0] != "a" {
		t.Errorf("nodes %v", got)
	}
	s.SetNode(node("b", roomyNode)) // comes back with its pod
	if s.byName["b"].used.cpu != 3000 {
		t.Error("pod forgotten with its node")
	}
	s.RemoveNode("b")
	if !s.RemovePod(p.UID) || s.RemovePod(p.UID) {
		t.Error("RemovePod")
	}
	if len(s.byName) != 1 || len(s.owners) != 0 || len(s.pods) != 0 {
		t.Errorf("left behind: %v %v %v", s.byName, s.owners, s.pods)
	}
}

// Whatever comes and goes, no node ever holds more than it has.
func TestPickNeverOvercommits(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		s := NewSnapshot()
		for i := range 1 + r.IntN(6) {
			s.SetNode(node(fmt.Sprint("n", i), fmt.Sprintf("cpu=%d memory=%dGi pods=%d", 1+r.IntN(4), 1+r.IntN(4), 1+r.IntN(8))))
		}
		var there []*corev1.Pod
		for i := range 200 {
			if len(there) > 0 && r.IntN(3) == 0 {
				k := r.IntN(len(there))
				s.RemovePod(there[k].UID)
				there = append(there[:k], there[k+1:]...)
				continue
			}
			p := pod(fmt.Sprint(i), fmt.Sprintf("cpu=%dm memory=%dMi", r.IntN(1500), r.IntN(1500)))
			if r.IntN(4) == 0 {
				onHostPort("", int32(80+r.IntN(2)), "")(p)
			}
			if name, _ := Pick(p, s, DefaultProfile(), r); name != "" {
				s.AddPod(p, name)
				there = append(there, p)
			}
			checkRoom(t, s)
		}
	}
}

func checkRoom(t *testing.T, s *Snapshot) {
	t.Helper()
	for _, n := range s.nodes {
		var sum amounts
		ports := map[int32]int{}
		for _, r := range n.pods {
			sum.add(&r.need, 1)
			for _, p := range r.ports {
				ports[p.port]++
			}
		}
		if sum.cpu != n.used.cpu || sum.memory != n.used.memory {
			t.Fatalf("%s: sums drifted", n.name)
		}
		if sum.cpu > n.allocatable.cpu || sum.memory > n.allocatable.memory || int64(len(n.pods)) > n.maxPods {
			t.Fatalf("%s is overcommitted: %+v of %+v, %d pods of %d", n.name, sum, n.allocatable, len(n.pods), n.maxPods)
		}
		for port, count := range ports {
			if count > 1 {
				t.Fatalf("%s: host port %d taken %d times", n.name, port, count)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, nodes := range []int{100, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			s := NewSnapshot()
			for i := range nodes {
				s.SetNode(node(fmt.Sprint("n", i), "cpu=64 memory=256Gi ephemeral-storage=100Gi pods=100000",
					label("zone", fmt.Sprint(i%3)), taint("soft", "", corev1.TaintEffectPreferNoSchedule)))
			}
			d, profile := decision{snapshot: s, random: random()}, DefaultProfile()
			uid := 0
			b.ReportAllocs()
			for b.Loop() {
				uid++
				request := newRequest(pod(fmt.Sprint(uid), "cpu=10m memory=16Mi", ownedBy(fmt.Sprint("rs", uid%50))))
				name, _ := d.pick(request, profile)
				if name == "" {
					b.Fatal("no node")
				}
				s.place(request, name)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}
