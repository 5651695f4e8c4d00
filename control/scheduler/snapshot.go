package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Snapshot is the nodes and what is on them, with the counts that rules about
// other pods need. It has one user at a time; Pick leaves it as it was.
type Snapshot struct {
	nodes    []*nodeState // those that exist, in no order
	byName   map[string]*nodeState
	pods     map[types.UID]placed
	owners   map[types.UID]int // pods placed, by controlling owner
	slots    []int             // free ones
	census   census
	images   map[string]*imageCount
	claims   claims
	budgets  map[string][]*budget // by namespace
	services services
}

// nodeState is one node. It outlives its Node object while pods are on it, and
// exists before it when pods come first.
type nodeState struct {
	name        string
	node        *corev1.Node // nil: only pods know of it
	position    int          // in Snapshot.nodes
	slot        int          // its own for as long as it lives, small
	allocatable amounts
	maxPods     int64
	used        amounts // sum of requests
	weighed     amounts // sum of requests with defaults
	pods        map[types.UID]*request
	nominated   map[types.UID]*request // pods that are to come, once others have gone
	ports       []hostPort
	hard        []corev1.Taint   // NoSchedule and NoExecute
	soft        []corev1.Taint   // PreferNoSchedule
	images      map[string]int64 // bytes by name
	modulesOnly bool             // when the images were counted
	runtimes    runtimes
}

type placed struct {
	on      *nodeState
	request *request
}

// NewSnapshot returns a Snapshot of no nodes.
func NewSnapshot() *Snapshot {
	return &Snapshot{byName: map[string]*nodeState{}, pods: map[types.UID]placed{}, owners: map[types.UID]int{},
		census: newCensus(), images: map[string]*imageCount{}, claims: newClaims(), budgets: map[string][]*budget{}, services: services{}}
}

// SetNode adds a node or replaces it.
func (s *Snapshot) SetNode(node *corev1.Node) {
	n := s.state(node.Name)
	before := n.node
	if before == nil {
		n.position = len(s.nodes)
		s.nodes = append(s.nodes, n)
	}
	n.node = node
	n.allocatable = amountsOf(node.Status.Allocatable)
	pods := node.Status.Allocatable[corev1.ResourcePods]
	n.maxPods = pods.Value()
	n.runtimes = runtimesOf(node)
	s.setImages(n, node.Status.Images)
	if before != nil && sameTaints(before, node) && maps.Equal(before.Labels, node.Labels) {
		return
	}
	n.hard, n.soft = nil, nil
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			n.soft = append(n.soft, taint)
		} else {
			n.hard = append(n.hard, taint)
		}
	}
	var labels map[string]string
	if before != nil {
		labels = before.Labels
	}
	s.census.nodeChanged(n, labels)
}

func sameTaints(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(a, b corev1.Taint) bool {
			return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
		})
}

// RemoveNode forgets a node. The pods on it are known until they are removed.
func (s *Snapshot) RemoveNode(name string) {
	n := s.byName[name]
	if n == nil || n.node == nil {
		return
	}
	last := s.nodes[len(s.nodes)-1]
	last.position = n.position
	s.nodes[n.position] = last
	s.nodes = s.nodes[:len(s.nodes)-1]
	labels := n.node.Labels
	n.node = nil
	s.setImages(n, nil)
	s.census.nodeChanged(n, labels)
	s.drop(n)
}

// AddPod counts a pod on a node. A pod that is known already moves.
func (s *Snapshot) AddPod(pod *corev1.Pod, node string) { s.place(newRequest(pod), node) }

// RemovePod forgets a pod and says whether it was known.
func (s *Snapshot) RemovePod(uid types.UID) bool {
	p, ok := s.pods[uid]
	if !ok {
		return false
	}
	s.lift(p)
	s.drop(p.on)
	return true
}

// lift takes a placed pod off its node, which stays known.
func (s *Snapshot) lift(p placed) {
	n, r := p.on, p.request
	delete(s.pods, r.pod.UID)
	delete(n.pods, r.pod.UID)
	n.used.add(&r.need, -1)
	n.weighed.add(&r.weigh, -1)
	if len(r.ports) > 0 {
		n.ports = nil
		for _, other := range n.pods {
			n.ports = append(n.ports, other.ports...)
		}
	}
	decrement(s.owners, r.owner)
	s.claims.use(r, n, -1)
	s.census.count(r, n, -1)
}

// Nodes returns the names of the nodes, in ascending order.
func (s *Snapshot) Nodes() []string {
	out := make([]string, 0, len(s.nodes))
	for _, n := range s.nodes {
		out = append(out, n.name)
	}
	slices.Sort(out)
	return out
}

// NodeOf returns the node on which a pod counts.
func (s *Snapshot) NodeOf(uid types.UID) (string, bool) {
	p, ok := s.pods[uid]
	if !ok {
		return "", false
	}
	return p.on.name, true
}

func (s *Snapshot) place(r *request, node string) {
	s.RemovePod(r.pod.UID)
	s.put(r, s.state(node))
}

// put places a pod that is nowhere yet.
func (s *Snapshot) put(r *request, n *nodeState) {
	s.pods[r.pod.UID] = placed{on: n, request: r}
	n.pods[r.pod.UID] = r
	n.used.add(&r.need, 1)
	n.weighed.add(&r.weigh, 1)
	n.ports = append(n.ports, r.ports...)
	if r.owner != "" {
		s.owners[r.owner]++
	}
	s.claims.use(r, n, 1)
	s.census.count(r, n, 1)
}

// confirm replaces what is known of a placed pod by a newer state that asks
// for the same.
func (s *Snapshot) confirm(pod *corev1.Pod) {
	if p, ok := s.pods[pod.UID]; ok {
		p.request.pod = pod
	}
}

func (s *Snapshot) state(name string) *nodeState {
	n := s.byName[name]
	if n == nil {
		n = &nodeState{name: name, pods: map[types.UID]*request{}, slot: len(s.byName)}
		if last := len(s.slots) - 1; last >= 0 {
			n.slot, s.slots = s.slots[last], s.slots[:last]
		}
		s.byName[name] = n
	}
	return n
}

// drop forgets a state that stands for nothing any more.
func (s *Snapshot) drop(n *nodeState) {
	if n.node == nil && len(n.pods) == 0 && len(n.nominated) == 0 && s.byName[n.name] == n {
		delete(s.byName, n.name)
		s.slots = append(s.slots, n.slot)
	}
}

// nominate reserves room on a node for a pod that waits for others to go.
func (s *Snapshot) nominate(r *request, node string) {
	n := s.state(node)
	if n.nominated == nil {
		n.nominated = map[types.UID]*request{}
	}
	n.nominated[r.pod.UID] = r
}

// forgetNomination gives up what nominate reserved.
func (s *Snapshot) forgetNomination(uid types.UID, node string) {
	if n := s.byName[node]; n != nil {
		delete(n.nominated, uid)
		s.drop(n)
	}
}

func decrement(counts map[types.UID]int, owner types.UID) {
	if owner == "" {
		return
	}
	if counts[owner]--; counts[owner] <= 0 {
		delete(counts, owner)
	}
}
