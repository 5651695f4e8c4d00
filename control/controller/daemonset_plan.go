package controller

import (
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// daemonRound is one look at a DaemonSet: nodes, the pods on them, and what is
// to be done.
type daemonRound struct {
	ds    *appsv1.DaemonSet
	hash  string // of the current template
	nodes []*corev1.Node
	on    map[string][]*corev1.Pod // by node, the oldest first
	now   time.Time
}

func newDaemonRound(ds *appsv1.DaemonSet, hash string, nodes []*corev1.Node, pods []*corev1.Pod, now time.Time) *daemonRound {
	r := &daemonRound{ds: ds, hash: hash, nodes: nodes, on: map[string][]*corev1.Pod{}, now: now}
	for _, p := range pods {
		if node := targetOf(p); node != "" {
			r.on[node] = append(r.on[node], p)
		}
	}
	for _, list := range r.on {
		slices.SortFunc(list, func(a, b *corev1.Pod) int {
			if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
				return c
			}
			return strings.Compare(a.Name, b.Name)
		})
	}
	slices.SortFunc(r.nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return r
}

// daemonPlan is what a round does.
type daemonPlan struct {
	create []string // nodes that get a pod
	remove []*corev1.Pod
	failed []*corev1.Pod // to be removed after their back-off
	ended  []*corev1.Pod // that ended well, which such a pod should not
	again  time.Duration // when the next pod becomes available by itself, 0: never
}

func (r *daemonRound) updated(p *corev1.Pod) bool { return revisionLabel(p) == r.hash }

func (r *daemonRound) available(p *corev1.Pod) bool {
	wait, ready := podAvailableIn(p, r.ds.Spec.MinReadySeconds, r.now)
	return ready && wait == 0
}

func (r *daemonRound) surges() bool {
	surge, _ := r.margins(1)
	return surge > 0
}

// plan gives each node that should have a pod one, and takes what is too much;
// then it replaces pods of an older template.
func (r *daemonRound) plan() daemonPlan {
	var plan daemonPlan
	known := map[string]bool{}
	for _, node := range r.nodes {
		known[node.Name] = true
		r.planNode(node, &plan)
	}
	for node, pods := range r.on {
		for _, p := range pods {
			if wait, ready := podAvailableIn(p, r.ds.Spec.MinReadySeconds, r.now); ready && wait > 0 && (plan.again == 0 || wait < plan.again) {
				plan.again = wait
			}
			if !known[node] && p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
				plan.remove = append(plan.remove, p) // the node is gone: nothing will ever bind it
			}
		}
	}
	if len(plan.create)+len(plan.remove)+len(plan.ended) > 0 {
		return plan // an update counts pods: it waits until there are those that should be
	}
	if r.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		r.planUpdate(&plan)
	}
	return plan
}

func (r *daemonRound) planNode(node *corev1.Node, plan *daemonPlan) {
	run, stay := belongsOn(r.ds, node)
	pods := r.on[node.Name]
	if !stay {
		for _, p := range pods {
			if p.DeletionTimestamp == nil {
				plan.remove = append(plan.remove, p)
			}
		}
		return
	}
	if len(pods) == 0 {
		if run {
			plan.create = append(plan.create, node.Name)
		}
		return
	}
	var running []*corev1.Pod
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
		case p.Status.Phase == corev1.PodFailed:
			plan.failed = append(plan.failed, p)
		case p.Status.Phase == corev1.PodSucceeded:
			plan.ended = append(plan.ended, p)
		default:
			running = append(running, p)
		}
	}
	plan.remove = append(plan.remove, r.excess(running)...)
}

// excess are the pods that a node has too many of: all but the oldest or, in
// an update with a surge, but the oldest of each template. The old one goes
// when it does not serve any more or the new one does.
func (r *daemonRound) excess(running []*corev1.Pod) (out []*corev1.Pod) {
	if len(running) <= 1 {
		return nil
	}
	if !r.surges() {
		return running[1:]
	}
	var newer, older *corev1.Pod
	for _, p := range running {
		switch {
		case r.updated(p) && newer == nil:
			newer = p
		case !r.updated(p) && older == nil:
			older = p
		default:
			out = append(out, p)
		}
	}
	if newer != nil && older != nil && (!isReady(older) || r.available(newer)) {
		out = append(out, older)
	}
	return out
}

// margins are how many nodes may have a second pod and how many may lack one
// during an update, of so many that should have one. Percentages are rounded
// up.
func (r *daemonRound) margins(desired int) (surge, lack int) {
	u := r.ds.Spec.UpdateStrategy.RollingUpdate
	if u == nil || r.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return 0, 1
	}
	if u.MaxSurge != nil {
		surge = int(scaled(*u.MaxSurge, int32(desired), true))
	}
	if u.MaxUnavailable != nil {
		lack = int(scaled(*u.MaxUnavailable, int32(desired), true))
	}
	if surge == 0 && lack == 0 {
		lack = 1
	}
	return surge, lack
}

// planUpdate replaces old pods: first those that are not available anyway,
// then as many as the margins leave.
func (r *daemonRound) planUpdate(plan *daemonPlan) {
	desired := 0
	should := map[string]bool{}
	for _, node := range r.nodes {
		if run, _ := belongsOn(r.ds, node); run {
			desired++
			should[node.Name] = true
		}
	}
	surge, lack := r.margins(desired)
	unavailable, surged := 0, 0
	var free, candidates []*corev1.Pod
	for _, node := range slices.Sorted(maps.Keys(r.on)) {
		newer, older := r.pair(r.on[node])
		switch {
		case older == nil && newer == nil:
			unavailable++ // one is ending
		case older == nil:
			if !r.available(newer) {
				unavailable++
			}
		case newer != nil:
			if !r.available(newer) {
				surged++
			}
		case !r.available(older):
			free = append(free, older)
			unavailable++
		default:
			candidates = append(candidates, older)
		}
	}
	room := lack - unavailable
	if surge > 0 {
		room = surge - surged
	}
	chosen := append(free, candidates[:max(0, min(room, len(candidates)))]...)
	for _, p := range chosen {
		if surge == 0 {
			plan.remove = append(plan.remove, p)
		} else if should[targetOf(p)] {
			plan.create = append(plan.create, targetOf(p))
		}
	}
}

// pair is the pod of the current template and that of an older one among those
// of a node that are not ending.
func (r *daemonRound) pair(pods []*corev1.Pod) (newer, older *corev1.Pod) {
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
		case r.updated(p):
			newer = p
		default:
			older = p
		}
	}
	return newer, older
}

// status counts nodes, each by its oldest pod.
func (r *daemonRound) status(collisions *int32) appsv1.DaemonSetStatus {
	s := appsv1.DaemonSetStatus{ObservedGeneration: r.ds.Generation, CollisionCount: collisions, Conditions: r.ds.Status.Conditions}
	for _, node := range r.nodes {
		run, _ := belongsOn(r.ds, node)
		pods := r.on[node.Name]
		switch {
		case !run && len(pods) > 0:
			s.NumberMisscheduled++
		case run:
			s.DesiredNumberScheduled++
			if len(pods) == 0 {
				continue
			}
			s.CurrentNumberScheduled++
			if isReady(pods[0]) {
				s.NumberReady++
				if r.available(pods[0]) {
					s.NumberAvailable++
				}
			}
			if r.updated(pods[0]) {
				s.UpdatedNumberScheduled++
			}
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}
