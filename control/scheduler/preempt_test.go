package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func labelled(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[key] = value
	}
}

func startedAt(seconds int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.StartTime = new(metav1.Unix(seconds, 0)) }
}

func keepAway(topology, key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: topology,
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}}}}}
	}
}

func guarding(name string, allowed int32, value string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed}}
}

func TestPreempt(t *testing.T) {
	one := func(name string, change ...func(*corev1.Node)) *corev1.Node {
		return node(name, "cpu=2 memory=8Gi pods=10", change...)
	}
	full := func(name, cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
		return pod(name, "cpu="+cpu, change...)
	}
	never := corev1.PreemptNever
	for _, tt := range []struct {
		name    string
		nodes   []*corev1.Node
		there   map[string][]*corev1.Pod
		budgets []*policyv1.PodDisruptionBudget
		pod     *corev1.Pod
		want    string // node: victims, or the message
	}{
		{"the lowest goes", []*corev1.Node{one("a")}, map[string][]*corev1.Pod{"a": {full("low", "1"), full("mid", "1", prio(5))}}, nil,
			full("p", "1", prio(9)), "a: low"},
		{"as few as possible", []*corev1.Node{one("a")}, map[string][]*corev1.Pod{"a": {full("x", "500m"), full("y", "1500m")}}, nil,
			full("p", "1", prio(9)), "a: y"},
		{"nobody is less important", []*corev1.Node{one("a"), one("b", cordoned)}, map[string][]*corev1.Pod{"a": {full("x", "2", prio(9))}}, nil,
			full("p", "1", prio(9)),
			"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. preemption: 0/2 nodes are available: " +
				"1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."},
		{"not enough even so", []*corev1.Node{one("a")}, map[string][]*corev1.Pod{"a": {full("x", "1", prio(9)), full("y", "1")}}, nil,
			full("p", "1500m", prio(9)),
			"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu."},
		{"too large for any node", []*corev1.Node{one("a")}, map[string][]*corev1.Pod{"a": {full("x", "2")}}, nil, full("p", "3", prio(9)),
			"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		{"policy Never", []*corev1.Node{one("a")}, map[string][]*corev1.Pod{"a": {full("x", "2")}}, nil,
			full("p", "1", prio(9), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = &never }),
			"0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."},
		{"a budget spares", []*corev1.Node{one("a")},
			map[string][]*corev1.Pod{"a": {full("x", "1", labelled("app", "web")), full("y", "1", prio(5))}},
			[]*policyv1.PodDisruptionBudget{guarding("web", 0, "web")}, full("p", "1", prio(9)), "a: y"},
		{"a node without broken budgets", []*corev1.Node{one("a"), one("b")},
			map[string][]*corev1.Pod{"a": {full("x", "2", labelled("app", "web"))}, "b": {full("y", "2", prio(8))}},
			[]*policyv1.PodDisruptionBudget{guarding("web", 0, "web")}, full("p", "1", prio(9)), "b: y"},
		{"a budget is broken where nothing else helps", []*corev1.Node{one("a")},
			map[string][]*corev1.Pod{"a": {full("x", "2", labelled("app", "web"))}},
			[]*policyv1.PodDisruptionBudget{guarding("web", 0, "web")}, full("p", "1", prio(9)), "a: x"},
		{"lowest highest priority", []*corev1.Node{one("a"), one("b")},
			map[string][]*corev1.Pod{"a": {full("x", "2", prio(3))}, "b": {full("y", "1", prio(2)), full("z", "1", prio(2))}}, nil,
			full("p", "2", prio(9)), "b: y z"},
		{"smallest sum", []*corev1.Node{one("a"), one("b")},
			map[string][]*corev1.Pod{"a": {full("x", "1", prio(3)), full("v", "1", prio(3))}, "b": {full("y", "1", prio(3)), full("z", "1", prio(1))}}, nil,
			full("p", "2", prio(9)), "b: y z"},
		{"the youngest", []*corev1.Node{one("a"), one("b")},
			map[string][]*corev1.Pod{"a": {full("x", "2", startedAt(100))}, "b": {full("y", "2", startedAt(200))}}, nil,
			full("p", "2", prio(9)), "b: y"},
		{"keeps away", []*corev1.Node{one("a")}, map[string][]*corev1.Pod{"a": {full("x", "100m", labelled("app", "web")), full("y", "100m")}}, nil,
			full("p", "1", prio(9), keepAway(corev1.LabelHostname, "app", "web")), "a: x"},
		{"is kept away", []*corev1.Node{one("a")},
			map[string][]*corev1.Pod{"a": {full("x", "100m", keepAway(corev1.LabelHostname, "app", "db")), full("y", "100m")}}, nil,
			full("p", "1", prio(9), labelled("app", "db")), "a: x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshotOf(tt.nodes...)
			for name, pods := range tt.there {
				for _, p := range pods {
					s.AddPod(p, name)
				}
			}
			for _, b := range tt.budgets {
				s.SetBudget(b)
			}
			d := decision{snapshot: s, random: random()}
			node, why := d.pick(newRequest(tt.pod), DefaultProfile())
			if node != "" {
				t.Fatalf("fits on %s", node)
			}
			got := ""
			if p := d.preempt(&why); p != nil {
				got = p.node.name + ":"
				for _, v := range p.victims {
					got += " " + v.pod.Name
				}
			} else {
				got = why.String()
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// Searching for victims leaves the snapshot as it was, and ending the victims
// is enough while sparing any one of them is not.
func TestPreemptIsMinimal(t *testing.T) {
	plans := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		s, profile := NewSnapshot(), DefaultProfile()
		for i := range 4 {
			s.SetNode(randomNode(r, fmt.Sprint("n", i)))
		}
		d := decision{snapshot: s, random: r}
		for i := range 60 {
			p := randomPod(r, fmt.Sprint(i))
			p.Spec.Priority = new(int32(r.IntN(4)))
			request := newRequest(p)
			name, why := d.pick(request, profile)
			if name != "" {
				s.place(request, name)
				continue
			}
			before := dump(s)
			plan := d.preempt(&why)
			if after := dump(s); after != before {
				t.Fatalf("seed %d: the search changed the snapshot:\n%s\n%s", seed, before, after)
			}
			if plan == nil {
				continue
			}
			plans++
			for _, v := range plan.victims {
				s.lift(placed{plan.node, v})
			}
			d.prepare(request, profile)
			if !d.fits(plan.node) {
				t.Fatalf("seed %d: the pod does not fit without its victims", seed)
			}
			for _, v := range plan.victims {
				if v.priority >= request.priority {
					t.Fatalf("seed %d: a victim is no less important", seed)
				}
				s.put(v, plan.node)
				d.prepare(request, profile)
				if d.fits(plan.node) {
					t.Fatalf("seed %d: a victim could have been spared", seed)
				}
				s.lift(placed{plan.node, v})
			}
			s.place(request, plan.node.name)
		}
	}
	if plans < 50 {
		t.Errorf("only %d preemptions: the test shows little", plans)
	}
}

// dump renders what a snapshot counts.
func dump(s *Snapshot) string {
	var out []string
	for _, n := range s.nodes {
		out = append(out, fmt.Sprintf("%s %v %d pods, %d ports", n.name, n.used, len(n.pods), len(n.ports)))
	}
	for id, t := range s.census.tallies {
		out = append(out, fmt.Sprintf("%s %d %d", id, t.total, len(t.domains)))
	}
	for key, b := range s.census.bearers {
		if b.total > 0 {
			out = append(out, fmt.Sprintf("%v %d %v", key, b.total, b.byValue))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func TestNominatedPodsKeepTheirRoom(t *testing.T) {
	s := snapshotOf(node("a", "cpu=2 memory=8Gi pods=10"))
	coming := pod("coming", "cpu=2", prio(5))
	s.nominate(newRequest(coming), "a")
	for _, tt := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pod("less", "cpu=1"), ""},
		{pod("equal", "cpu=1", prio(5)), ""},
		{pod("more", "cpu=1", prio(6)), "a"},
		{coming, "a"},
		{pod("small", ""), "a"},
	} {
		if got, why := Pick(tt.pod, s, DefaultProfile(), random()); got != tt.want {
			t.Errorf("%s: %q (%v)", tt.pod.Name, got, why)
		} else if got == "" && why.String() != "0/1 nodes are available: 1 Insufficient cpu." {
			t.Errorf("%s: %v", tt.pod.Name, why)
		}
	}
	s.forgetNomination(coming.UID, "a")
	if got, _ := Pick(pod("less", "cpu=1"), s, DefaultProfile(), random()); got != "a" {
		t.Error("the nomination outlived its end")
	}
}

func TestSchedulerPreempts(t *testing.T) {
	inBed(t, nil, func(b *bed) {
		b.addNode(node("a", "cpu=2 memory=8Gi pods=10"))
		b.addPod(pod("victim", "cpu=2", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(20)) }))
		b.pass(time.Second)
		b.addPod(pod("urgent", "cpu=1", func(p *corev1.Pod) { p.Spec.PriorityClassName = "system-cluster-critical" }, prio(2000000000)))
		b.pass(time.Second)
		victim, urgent := b.pod("victim"), b.pod("urgent")
		if victim.DeletionTimestamp == nil || urgent.Status.NominatedNodeName != "a" || urgent.Spec.NodeName != "" {
			t.Fatalf("victim %v, nominated %q, on %q", victim.DeletionTimestamp, urgent.Status.NominatedNodeName, urgent.Spec.NodeName)
		}
		found := slices.ContainsFunc(victim.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "PreemptionByScheduler" &&
				c.Message == "default-scheduler: preempting to accommodate a higher priority pod"
		})
		if !found {
			t.Errorf("conditions %+v", victim.Status.Conditions)
		}
		if got, want := b.said("victim"), "Preempted: Preempted by pod "+string(urgent.UID)+" on node a"; !strings.Contains(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		b.addPod(pod("thief", "cpu=1"))
		b.removePod("victim")
		b.pass(lastBackoff)
		if b.pod("urgent").Spec.NodeName != "a" || b.pod("urgent").Status.NominatedNodeName != "" {
			t.Errorf("urgent is on %q, nominated to %q", b.pod("urgent").Spec.NodeName, b.pod("urgent").Status.NominatedNodeName)
		}
		if b.pod("thief").Spec.NodeName != "a" {
			t.Error("what was left over is not used")
		}
	})
}
