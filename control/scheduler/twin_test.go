package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// twin is the world as plain lists, and the rules as the documentation has
// them: slow and obvious. It knows nothing of counts that are kept.
type twin struct {
	nodes  map[string]*corev1.Node
	pods   map[string][]*corev1.Pod // by node
	spaces map[string]map[string]string
}

func selects(selector *metav1.LabelSelector, of map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(of))
}

func (w *twin) termHas(owner *corev1.Pod, t *corev1.PodAffinityTerm, pod *corev1.Pod) bool {
	space := slices.Contains(t.Namespaces, pod.Namespace) ||
		t.NamespaceSelector != nil && selects(t.NamespaceSelector, w.spaces[pod.Namespace]) ||
		len(t.Namespaces) == 0 && t.NamespaceSelector == nil && pod.Namespace == owner.Namespace
	if !space || !selects(t.LabelSelector, pod.Labels) {
		return false
	}
	for _, key := range t.MatchLabelKeys {
		if value, ok := owner.Labels[key]; ok && pod.Labels[key] != value {
			return false
		}
	}
	return true
}

// near says whether some pod of the node's domain is one of those.
func (w *twin) near(n *corev1.Node, topology string, is func(*corev1.Pod) bool) bool {
	value, ok := n.Labels[topology]
	for name, other := range w.nodes {
		if v, has := other.Labels[topology]; ok && has && v == value && slices.ContainsFunc(w.pods[name], is) {
			return true
		}
	}
	return false
}

func (w *twin) takes(pod *corev1.Pod, n *corev1.Node) bool {
	return w.takesAlone(pod, n) && w.takesAffinity(pod, n) && w.takesSpread(pod, n)
}

// takesAlone is what does not depend on pods elsewhere.
func (w *twin) takesAlone(pod *corev1.Pod, n *corev1.Node) bool {
	if n.Spec.Unschedulable || !w.tolerated(pod, n) {
		return false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n); !ok || err != nil {
		return false
	}
	there := append(slices.Clone(w.pods[n.Name]), pod)
	for name, q := range n.Status.Allocatable {
		sum := int64(0)
		for _, p := range there {
			request := p.Spec.Containers[0].Resources.Requests[name]
			sum += request.MilliValue()
		}
		if name == corev1.ResourcePods {
			sum = int64(len(there)) * 1000
		}
		if own := pod.Spec.Containers[0].Resources.Requests[name]; sum > q.MilliValue() && (own.MilliValue() > 0 || name == corev1.ResourcePods) {
			return false
		}
	}
	for _, p := range w.pods[n.Name] {
		for _, a := range p.Spec.Containers[0].Ports {
			for _, b := range pod.Spec.Containers[0].Ports {
				if a.HostPort == b.HostPort {
					return false
				}
			}
		}
	}
	return true
}

func (w *twin) tolerated(pod *corev1.Pod, n *corev1.Node) bool {
	_, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, pod.Spec.Tolerations,
		func(t *corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule }, false)
	return !bad
}

func (w *twin) takesAffinity(pod *corev1.Pod, n *corev1.Node) bool {
	for _, pods := range w.pods {
		for _, other := range pods {
			if other.Spec.Affinity == nil || other.Spec.Affinity.PodAntiAffinity == nil {
				continue
			}
			for _, t := range other.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				if w.termHas(other, &t, pod) && w.near(n, t.TopologyKey, func(p *corev1.Pod) bool { return p == other }) {
					return false
				}
			}
		}
	}
	a := pod.Spec.Affinity
	if a != nil && a.PodAntiAffinity != nil {
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if w.near(n, t.TopologyKey, func(p *corev1.Pod) bool { return w.termHas(pod, &t, p) }) {
				return false
			}
		}
	}
	if a == nil || a.PodAffinity == nil {
		return true
	}
	satisfied, first := true, true
	for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if _, ok := n.Labels[t.TopologyKey]; !ok {
			return false
		}
		is := func(p *corev1.Pod) bool { return w.termHas(pod, &t, p) }
		satisfied = satisfied && w.near(n, t.TopologyKey, is)
		first = first && is(pod)
		for name, other := range w.nodes {
			if _, ok := other.Labels[t.TopologyKey]; ok && slices.ContainsFunc(w.pods[name], is) {
				first = false
			}
		}
	}
	return satisfied || first
}

func (w *twin) takesSpread(pod *corev1.Pod, n *corev1.Node) bool {
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		value, ok := n.Labels[c.TopologyKey]
		if !ok {
			return false
		}
		counts := map[string]int32{}
		for name, other := range w.nodes {
			if !w.spreadCounts(pod, &c, other) {
				continue
			}
			counts[other.Labels[c.TopologyKey]] += 0
			for _, p := range w.pods[name] {
				if p.Namespace == pod.Namespace && selects(c.LabelSelector, p.Labels) && p.DeletionTimestamp == nil {
					counts[other.Labels[c.TopologyKey]]++
				}
			}
		}
		lowest := int32(1 << 30)
		for _, count := range counts {
			lowest = min(lowest, count)
		}
		if len(counts) == 0 || c.MinDomains != nil && int32(len(counts)) < *c.MinDomains {
			lowest = 0
		}
		own := int32(0)
		if selects(c.LabelSelector, pod.Labels) {
			own = 1
		}
		if counts[value]+own-lowest > c.MaxSkew {
			return false
		}
	}
	return true
}

// spreadCounts says whether pods on the node count for a constraint.
func (w *twin) spreadCounts(pod *corev1.Pod, c *corev1.TopologySpreadConstraint, n *corev1.Node) bool {
	for _, other := range pod.Spec.TopologySpreadConstraints {
		if _, ok := n.Labels[other.TopologyKey]; !ok && other.WhenUnsatisfiable == corev1.DoNotSchedule {
			return false
		}
	}
	if c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n); !ok || err != nil {
			return false
		}
	}
	if c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
		return w.tolerated(pod, n) && !n.Spec.Unschedulable
	}
	return true
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// randomNode is a node with labels, taints and room that differ.
func randomNode(r *rand.Rand, name string) *corev1.Node {
	n := node(name, fmt.Sprintf("cpu=%d memory=%dGi pods=%d example.com/gpu=%d", 1+r.IntN(4), 1+r.IntN(4), 2+r.IntN(6), r.IntN(3)))
	if r.IntN(5) > 0 {
		n.Labels["zone"] = oneOf(r, "a", "b", "c")
	}
	if r.IntN(3) == 0 {
		n.Labels["disk"] = "ssd"
	}
	if r.IntN(4) == 0 {
		taint("team", oneOf(r, "x", "y"), oneOf(r, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule))(n)
	}
	n.Labels["generation"] = fmt.Sprint(r.IntN(4))
	n.Spec.Unschedulable = r.IntN(8) == 0
	return n
}

// randomPod asks for a bit of everything.
func randomPod(r *rand.Rand, name string) *corev1.Pod {
	p := pod(name, fmt.Sprintf("cpu=%dm memory=%dMi example.com/gpu=%d", r.IntN(900), r.IntN(700), r.IntN(8)/7))
	p.Namespace = oneOf(r, "default", "other")
	p.Labels = map[string]string{"app": oneOf(r, "web", "db"), "rev": oneOf(r, "1", "2")}
	if r.IntN(5) == 0 {
		onHostPort("", int32(80+r.IntN(2)), "")(p)
	}
	if r.IntN(3) == 0 {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "team", Operator: corev1.TolerationOpExists}}
	}
	if r.IntN(6) == 0 {
		p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	}
	p.Spec.Affinity = &corev1.Affinity{}
	if r.IntN(4) == 0 {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: randomNodeSelector(r)}
	}
	if r.IntN(4) == 0 {
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: randomTerms(r)}
	}
	if r.IntN(4) == 0 {
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: randomTerms(r)}
	}
	for range r.IntN(3) {
		c := corev1.TopologySpreadConstraint{MaxSkew: int32(1 + r.IntN(2)), TopologyKey: oneOf(r, "zone", corev1.LabelHostname),
			WhenUnsatisfiable: oneOf(r, corev1.DoNotSchedule, corev1.ScheduleAnyway), LabelSelector: randomSelector(r),
			NodeAffinityPolicy: oneOf(r, nil, new(corev1.NodeInclusionPolicyIgnore), new(corev1.NodeInclusionPolicyHonor)),
			NodeTaintsPolicy:   oneOf(r, nil, new(corev1.NodeInclusionPolicyIgnore), new(corev1.NodeInclusionPolicyHonor))}
		if r.IntN(3) == 0 {
			c.MinDomains = new(int32(1 + r.IntN(3)))
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
	return p
}

func randomNodeSelector(r *rand.Rand) *corev1.NodeSelector {
	out := &corev1.NodeSelector{}
	for range 1 + r.IntN(2) {
		t := corev1.NodeSelectorTerm{}
		if r.IntN(4) > 0 {
			t.MatchExpressions = append(t.MatchExpressions, oneOf(r,
				corev1.NodeSelectorRequirement{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b"}},
				corev1.NodeSelectorRequirement{Key: "zone", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"a"}},
				corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpExists},
				corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpDoesNotExist},
				corev1.NodeSelectorRequirement{Key: "generation", Operator: corev1.NodeSelectorOpGt, Values: []string{"1"}},
				corev1.NodeSelectorRequirement{Key: "generation", Operator: corev1.NodeSelectorOpLt, Values: []string{"x"}}))
		}
		if r.IntN(4) == 0 {
			t.MatchFields = append(t.MatchFields, corev1.NodeSelectorRequirement{Key: "metadata.name",
				Operator: oneOf(r, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{fmt.Sprint("n", r.IntN(8))}})
		}
		out.NodeSelectorTerms = append(out.NodeSelectorTerms, t)
	}
	return out
}

func randomSelector(r *rand.Rand) *metav1.LabelSelector {
	return oneOf(r, nil, &metav1.LabelSelector{}, &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"web"}}}})
}

func randomTerms(r *rand.Rand) (out []corev1.PodAffinityTerm) {
	for range 1 + r.IntN(2) {
		t := corev1.PodAffinityTerm{LabelSelector: randomSelector(r), TopologyKey: oneOf(r, "zone", corev1.LabelHostname)}
		switch r.IntN(4) {
		case 0:
			t.Namespaces = []string{"default", "other"}
		case 1:
			t.NamespaceSelector = oneOf(r, &metav1.LabelSelector{}, &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "one"}})
		}
		if t.LabelSelector != nil && r.IntN(3) == 0 {
			t.MatchLabelKeys = []string{"rev"}
		}
		out = append(out, t)
	}
	return out
}

// Whatever comes and goes, each filter agrees with the twin about each node,
// and what is picked breaks no rule.
func TestPickAgreesWithTwin(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 11))
		s, profile := NewSnapshot(), DefaultProfile()
		w := &twin{nodes: map[string]*corev1.Node{}, pods: map[string][]*corev1.Pod{}, spaces: map[string]map[string]string{"default": {}}}
		d := decision{snapshot: s, random: r}
		s.SetNamespace("default", nil)
		taken, refused := 0, 0
		for i := range 250 {
			name := fmt.Sprint("n", r.IntN(8))
			switch r.IntN(12) {
			case 0, 1:
				w.nodes[name] = randomNode(r, name)
				s.SetNode(w.nodes[name])
			case 2:
				if r.IntN(3) == 0 {
					delete(w.nodes, name)
					s.RemoveNode(name)
				}
			case 3, 4:
				if list := w.pods[name]; len(list) > 0 {
					s.RemovePod(list[0].UID)
					w.pods[name] = list[1:]
				}
			case 5:
				w.spaces["other"] = oneOf(r, map[string]string{}, map[string]string{"tier": "one"})
				s.SetNamespace("other", w.spaces["other"])
			case 6:
				if list := w.pods[name]; len(list) > 0 {
					list[0] = list[0].DeepCopy()
					list[0].DeletionTimestamp = &metav1.Time{}
					s.AddPod(list[0], name)
				}
			default:
				p := randomPod(r, fmt.Sprint(i))
				d.prepare(newRequest(p), profile)
				for name, n := range w.nodes {
					if got, want := d.fitsNow(s.byName[name]), w.takes(p, n); got != want {
						t.Fatalf("seed %d step %d: %s takes the pod: %v, twin says %v (%v)\n%+v", seed, i, name, got, want, d.refusal(s.byName[name]), p.Spec)
					}
				}
				if name, _ := d.pick(newRequest(p), profile); name != "" {
					taken++
					w.pods[name] = append(w.pods[name], p)
					s.AddPod(p, name)
				} else {
					refused++
				}
			}
		}
		if taken < 10 || refused < 10 {
			t.Errorf("seed %d: %d taken, %d refused: the test shows little", seed, taken, refused)
		}
	}
}
