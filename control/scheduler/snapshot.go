package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// Snapshot is the nodes and what is on them. It has one user at a time; Pick
// only reads it.
type Snapshot struct {
	nodes  []*nodeState // those that exist, in no order
	byName map[string]*nodeState
	pods   map[types.UID]placed
	owners map[types.UID]int // pods placed, by controlling owner
}

// nodeState is one node. It outlives its Node object while pods are on it, and
// exists before it when pods come first.
type nodeState struct {
	name        string
	node        *corev1.Node // nil: only pods know of it
	position    int          // in Snapshot.nodes
	allocatable amounts
	maxPods     int64
	used        amounts // sum of requests
	weighed     amounts // sum of requests with defaults
	pods        map[types.UID]*request
	ports       []hostPort
	owners      map[types.UID]int
	hard        []corev1.Taint // NoSchedule and NoExecute
	soft        []corev1.Taint // PreferNoSchedule
}

type placed struct {
	on      *nodeState
	request *request
}

// NewSnapshot returns a Snapshot of no nodes.
func NewSnapshot() *Snapshot {
	return &Snapshot{byName: map[string]*nodeState{}, pods: map[types.UID]placed{}, owners: map[types.UID]int{}}
}

// SetNode adds a node or replaces it.
func (s *Snapshot) SetNode(node *corev1.Node) {
	n := s.state(node.Name)
	if n.node == nil {
		n.position = len(s.nodes)
		s.nodes = append(s.nodes, n)
	}
	n.node = node
	n.allocatable = amountsOf(node.Status.Allocatable)
	pods := node.Status.Allocatable[corev1.ResourcePods]
	n.maxPods = pods.Value()
	n.hard, n.soft = nil, nil
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			n.soft = append(n.soft, taint)
		} else {
			n.hard = append(n.hard, taint)
		}
	}
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
	n.node = nil
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
	delete(s.pods, uid)
	n, r := p.on, p.request
	delete(n.pods, uid)
	n.used.add(&r.need, -1)
	n.weighed.add(&r.weigh, -1)
	if len(r.ports) > 0 {
		n.ports = nil
		for _, other := range n.pods {
			n.ports = append(n.ports, other.ports...)
		}
	}
	decrement(n.owners, r.owner)
	decrement(s.owners, r.owner)
	s.drop(n)
	return true
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
	n := s.state(node)
	s.pods[r.pod.UID] = placed{on: n, request: r}
	n.pods[r.pod.UID] = r
	n.used.add(&r.need, 1)
	n.weighed.add(&r.weigh, 1)
	n.ports = append(n.ports, r.ports...)
	if r.owner != "" {
		n.owners[r.owner]++
		s.owners[r.owner]++
	}
}

func (s *Snapshot) state(name string) *nodeState {
	n := s.byName[name]
	if n == nil {
		n = &nodeState{name: name, pods: map[types.UID]*request{}, owners: map[types.UID]int{}}
		s.byName[name] = n
	}
	return n
}

// drop forgets a state that stands for nothing any more.
func (s *Snapshot) drop(n *nodeState) {
	if n.node == nil && len(n.pods) == 0 {
		delete(s.byName, n.name)
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

// roomier says whether a pod that fitted nowhere may fit on the node after the
// change from old to new. old is nil for a new node.
func roomier(old, new *corev1.Node) bool {
	if old == nil {
		return true
	}
	return old.Spec.Unschedulable != new.Spec.Unschedulable ||
		!slices.EqualFunc(old.Spec.Taints, new.Spec.Taints, func(a, b corev1.Taint) bool {
			return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
		}) ||
		!maps.Equal(old.Labels, new.Labels) ||
		!maps.EqualFunc(old.Status.Allocatable, new.Status.Allocatable, resource.Quantity.Equal)
}
