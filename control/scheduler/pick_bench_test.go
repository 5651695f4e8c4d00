package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// benchCluster is nodes in three zones, each with pods of another application.
func benchCluster(nodes, pods int) *Snapshot {
	s := NewSnapshot()
	for i := range nodes {
		s.SetNode(node(fmt.Sprint("n", i), "cpu=64 memory=256Gi ephemeral-storage=100Gi pods=1000",
			label(corev1.LabelTopologyZone, fmt.Sprint("zone", i%3))))
	}
	for i := range pods {
		s.AddPod(pod(fmt.Sprint("there", i), "cpu=10m memory=16Mi", labelled("app", "other"), ownedBy(fmt.Sprint("rs", i%100))), fmt.Sprint("n", i%nodes))
	}
	return s
}

func evenly(topology string, when corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: topology,
			WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}})
	}
}

func attracted(topology string, preferred bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		term := corev1.PodAffinityTerm{TopologyKey: topology, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}}
		if preferred {
			p.Spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: term}}
		} else {
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term}
		}
	}
}

// BenchmarkPickWorkloads measures decisions at 5,000 nodes, in the style of
// the scheduler_perf workloads of Kubernetes. One operation is one pod, which
// is placed.
func BenchmarkPickWorkloads(b *testing.B) {
	for _, tt := range []struct {
		name   string
		change []func(*corev1.Pod)
	}{
		{"SchedulingBasic", nil},
		{"SchedulingOfOneOwner", []func(*corev1.Pod){ownedBy("rs")}},
		{"SchedulingPodAntiAffinity", []func(*corev1.Pod){labelled("colour", "green"), keepAway(corev1.LabelHostname, "colour", "green")}},
		{"SchedulingPodAffinity", []func(*corev1.Pod){labelled("app", "web"), attracted(corev1.LabelTopologyZone, false)}},
		{"SchedulingPreferredPodAffinity", []func(*corev1.Pod){labelled("app", "web"), attracted(corev1.LabelHostname, true)}},
		{"TopologySpreading", []func(*corev1.Pod){labelled("app", "web"), evenly(corev1.LabelTopologyZone, corev1.DoNotSchedule)}},
		{"PreferredTopologySpreading", []func(*corev1.Pod){labelled("app", "web"), evenly(corev1.LabelTopologyZone, corev1.ScheduleAnyway)}},
		{"TopologySpreadingByHost", []func(*corev1.Pod){labelled("app", "web"), evenly(corev1.LabelHostname, corev1.DoNotSchedule)}},
		{"SchedulingNodeAffinity", []func(*corev1.Pod){affinity(corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{in(corev1.LabelTopologyZone, "zone1", "zone2")}}})}},
	} {
		b.Run(tt.name+"/nodes=5000", func(b *testing.B) {
			benchPicks(b, benchCluster(5000, 5000), tt.change...)
		})
	}
}

// BenchmarkPickAmongPods measures the same decision among few and among many
// pods: the cost must not grow with them.
func BenchmarkPickAmongPods(b *testing.B) {
	for _, pods := range []int{1000, 50000} {
		b.Run(fmt.Sprintf("nodes=1000/pods=%d", pods), func(b *testing.B) {
			benchPicks(b, benchCluster(1000, pods), labelled("app", "web"), ownedBy("rs"), evenly(corev1.LabelTopologyZone, corev1.DoNotSchedule),
				evenly(corev1.LabelHostname, corev1.ScheduleAnyway))
		})
	}
}

// benchPicks places pods like one, and takes the oldest away so that their
// number stays.
func benchPicks(b *testing.B, s *Snapshot, change ...func(*corev1.Pod)) {
	const kept = 1000
	d, profile := decision{snapshot: s, random: random()}, DefaultProfile()
	var placed []*corev1.Pod
	d.prepare(newRequest(pod("first", "", change...)), profile) // a rule that is new is counted once
	uid := 0
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		uid++
		p := pod(fmt.Sprint("p", uid), "cpu=10m memory=16Mi", change...)
		request := newRequest(p)
		name, why := d.pick(request, profile)
		if name == "" {
			b.Fatal(why)
		}
		s.place(request, name)
		if placed = append(placed, p); len(placed) > kept {
			s.RemovePod(placed[0].UID)
			placed = placed[1:]
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}

// BenchmarkPreempt measures a pod that finds all 5,000 nodes full of less
// important ones, and the search for its victims.
func BenchmarkPreempt(b *testing.B) {
	s := NewSnapshot()
	for i := range 5000 {
		name := fmt.Sprint("n", i)
		s.SetNode(node(name, "cpu=4 memory=32Gi pods=110"))
		for j := range 4 {
			s.AddPod(pod(fmt.Sprint(name, "-", j), "cpu=900m memory=500Mi"), name)
		}
	}
	d, profile := decision{snapshot: s, random: random()}, DefaultProfile()
	uid := 0
	b.ReportAllocs()
	for b.Loop() {
		uid++
		request := newRequest(pod(fmt.Sprint("p", uid), "cpu=3 memory=500Mi", prio(10)))
		name, why := d.pick(request, profile)
		if name != "" {
			b.Fatal("there is room")
		}
		if d.preempt(&why) == nil {
			b.Fatal(why)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}
