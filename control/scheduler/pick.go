package scheduler

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
)

// The best score that one criterion gives, and the weights of the criteria:
// those of kube-scheduler's default profile.
const (
	best = 100

	weightLeast    = 1
	weightBalance  = 1
	weightAffinity = 2
	weightSpread   = 2
	weightTaints   = 3
)

// Pick chooses a node for the pod. node is "" when none takes it; then why says
// the reasons. random decides among equals.
func Pick(pod *corev1.Pod, s *Snapshot, random *rand.Rand) (node string, why Reasons) {
	return new(picker).pick(newRequest(pod), s, random)
}

// picker keeps the lists of one decision for the next one.
type picker struct {
	options []option
}

// option is a node that takes the pod and what speaks for and against it. The
// last three are compared with the other options'.
type option struct {
	node      *nodeState
	score     int64
	preferred int64 // weights of preferred affinity terms that match
	siblings  int64 // pods of the same owner on the node
	taints    int64 // PreferNoSchedule taints that the pod does not tolerate
}

func (p *picker) pick(r *request, s *Snapshot, random *rand.Rand) (string, Reasons) {
	p.options = p.options[:0]
	spread := r.owner != "" && s.owners[r.owner] > 0
	for _, n := range s.nodes {
		if !n.fits(r) {
			continue
		}
		o := option{node: n, score: weightLeast*n.least(r) + weightBalance*n.balance(r)}
		if r.preferred != nil {
			o.preferred = r.preferred.Score(n.node)
		}
		if spread {
			o.siblings = int64(n.owners[r.owner])
		}
		for i := range n.soft {
			if !tolerates(r.pod.Spec.Tolerations, &n.soft[i]) {
				o.taints++
			}
		}
		p.options = append(p.options, o)
	}
	if len(p.options) == 0 {
		return "", reasons(r, s)
	}
	return choose(p.options, random).name, Reasons{}
}

// choose returns the node with the highest score, at random among equals.
func choose(options []option, random *rand.Rand) *nodeState {
	var preferred, siblings, taints int64
	for i := range options {
		preferred = max(preferred, options[i].preferred)
		siblings = max(siblings, options[i].siblings)
		taints = max(taints, options[i].taints)
	}
	var chosen *nodeState
	var top int64
	equals := 0
	for i := range options {
		o := &options[i]
		score := o.score + weightTaints*share(taints-o.taints, taints, best) +
			weightSpread*share(siblings-o.siblings, siblings, best) +
			weightAffinity*share(o.preferred, preferred, 0)
		switch {
		case chosen == nil || score > top:
			chosen, top, equals = o.node, score, 1
		case score == top:
			if equals++; random.IntN(equals) == 0 {
				chosen = o.node
			}
		}
	}
	return chosen
}

// share scales part of whole to a score; otherwise is the score of no whole.
func share(part, whole, otherwise int64) int64 {
	if whole == 0 {
		return otherwise
	}
	return part * best / whole
}

func reasons(r *request, s *Snapshot) Reasons {
	why := Reasons{Nodes: len(s.nodes), Counts: map[string]int{}}
	for _, n := range s.nodes {
		for _, text := range n.refusal(r) {
			why.Counts[text]++
		}
	}
	return why
}

// least favours nodes with much left (LeastAllocated).
func (n *nodeState) least(r *request) int64 {
	return (left(n.weighed.cpu+r.weigh.cpu, n.allocatable.cpu) +
		left(n.weighed.memory+r.weigh.memory, n.allocatable.memory)) / 2
}

func left(used, allocatable int64) int64 {
	if allocatable <= 0 || used > allocatable {
		return 0
	}
	return (allocatable - used) * best / allocatable
}

// balance favours nodes where CPU and memory are used to the same degree
// (BalancedAllocation).
func (n *nodeState) balance(r *request) int64 {
	if n.allocatable.cpu <= 0 || n.allocatable.memory <= 0 {
		return 0
	}
	cpu := min(1, float64(n.used.cpu+r.need.cpu)/float64(n.allocatable.cpu))
	memory := min(1, float64(n.used.memory+r.need.memory)/float64(n.allocatable.memory))
	deviation := (cpu - memory) / 2
	if deviation < 0 {
		deviation = -deviation
	}
	return int64((1 - deviation) * best)
}
