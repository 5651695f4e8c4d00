package controller

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/reconcile"
)

// How fast the pods of nodes that are not healthy are made to leave, with the
// defaults of the flags of kube-controller-manager that are named
// (https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction).
const (
	nodeEvictionEvery      = 10 * time.Second  // --node-eviction-rate 0.1
	secondaryEvictionEvery = 100 * time.Second // --secondary-node-eviction-rate 0.01
	unhealthyZoneThreshold = 0.55              // --unhealthy-zone-threshold
	largeClusterSize       = 50                // --large-cluster-size-threshold
	// disruptedFew is how many nodes of a zone may be unhealthy, whatever part
	// of it they are.
	disruptedFew = 2
	// disruptedRecheck is how often nodes are reconsidered whose pods stay
	// because of the trouble that other nodes are in.
	disruptedRecheck = 5 * time.Second
)

// evictions say what becomes of the taints that make the pods of an unhealthy
// node leave.
type evictions int

const (
	evictAsUsual evictions = iota
	evictLater             // none is added now
	evictNever             // those that are there go
)

// zone is where nodes fail together.
type zone struct{ region, name string }

func zoneOf(n *corev1.Node) zone {
	return zone{n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone]}
}

// zonePace lets the nodes of a zone be tainted one after the other. The zero
// value is ready; it is safe for concurrent use.
type zonePace struct {
	mu   sync.Mutex
	last map[zone]turn
}

// turn is the last time that a zone's pace let a node through.
type turn struct {
	node types.UID
	at   time.Time
}

// take asks for the node's turn; wait is how long it has to wait, 0 when it
// has it. Asking again, after a write that failed, takes no second one.
func (p *zonePace) take(z zone, node types.UID, every time.Duration, now time.Time) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.last[z]
	if due := last.at.Add(every); ok && last.node != node && due.After(now) {
		return due.Sub(now)
	}
	if p.last == nil {
		p.last = map[zone]turn{}
	}
	p.last[z] = turn{node: node, at: now}
	return 0
}

// evictionPace is how long to wait between two nodes of a zone, 0 when none is
// to be tainted. never is set when no node of the cluster is ready: then it is
// more likely that the control plane was cut off, and there is nowhere to go.
func evictionPace(nodes []*corev1.Node, z zone) (every time.Duration, never bool) {
	ready, unready, anywhere := 0, 0, 0
	for _, n := range nodes {
		healthy := conditionStatus(n, corev1.NodeReady) == corev1.ConditionTrue
		if healthy {
			anywhere++
		}
		switch {
		case zoneOf(n) != z:
		case healthy:
			ready++
		default:
			unready++
		}
	}
	switch {
	case anywhere == 0:
		return 0, true
	case ready == 0: // the whole zone: its pods have to go elsewhere
		return nodeEvictionEvery, false
	case unready <= disruptedFew || float64(unready) < unhealthyZoneThreshold*float64(ready+unready):
		return nodeEvictionEvery, false
	case ready+unready > largeClusterSize:
		return secondaryEvictionEvery, false
	}
	return 0, false
}

// evictions judges a node that may be unhealthy. wait is when to judge it
// again, 0: when something changes.
func (c *nodeLifecycle) evictions(node *corev1.Node, now time.Time) (what evictions, wait time.Duration) {
	if ready := conditionStatus(node, corev1.NodeReady); ready == corev1.ConditionTrue || ready == "" {
		return evictAsUsual, 0
	}
	every, never := evictionPace(reconcile.As[*corev1.Node](c.nodes.List("")), zoneOf(node))
	if never {
		return evictNever, disruptedRecheck
	}
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable) {
			return evictAsUsual, disruptedRecheck // one more may fall silent
		}
	}
	if every == 0 {
		return evictLater, disruptedRecheck
	}
	if wait := c.zones.take(zoneOf(node), node.UID, every, now); wait > 0 {
		return evictLater, min(wait, disruptedRecheck)
	}
	return evictAsUsual, disruptedRecheck
}
