package scheduler

import "math"

// best is the highest score that one criterion gives.
const best = 100

// scorer is one criterion among the nodes that take the pod. Names are those of
// kube-scheduler's plugins.
type scorer struct {
	name string
	// asks says whether the criterion tells nodes apart for this pod; nil: always.
	asks func(*decision) bool
	// score is the node's raw score; finish, where it is set, brings all raw
	// scores of a decision to 0..best.
	score  func(*decision, *nodeState) int64
	finish func([]int64)
}

// scorers returns the table of criteria.
func scorers() []scorer {
	return []scorer{
		{name: "TaintToleration", finish: reversed,
			asks:  func(d *decision) bool { return d.softTaints },
			score: func(d *decision, n *nodeState) int64 { return d.intolerable(n) }},
		{name: "NodeAffinity", finish: proportional,
			asks: func(d *decision) bool { return d.request.preferred != nil || d.profile.preferred != nil },
			score: func(d *decision, n *nodeState) (sum int64) {
				if d.request.preferred != nil {
					sum = d.request.preferred.Score(n.node)
				}
				if d.profile.preferred != nil {
					sum += d.profile.preferred.Score(n.node)
				}
				return sum
			}},
		{name: "PodTopologySpread", finish: spreadOut,
			asks: func(d *decision) bool { return len(d.soft) > 0 },
			score: func(d *decision, n *nodeState) int64 {
				cost, counts := d.spreadCost(n)
				if !counts {
					return outside
				}
				return int64(math.Round(cost))
			}},
		{name: "InterPodAffinity", finish: stretched,
			asks:  func(d *decision) bool { return d.others.matters() },
			score: func(d *decision, n *nodeState) int64 { return d.others.liking(n, d.profile.HardPodAffinityWeight) }},
		{name: "NodeResourcesFit", score: func(d *decision, n *nodeState) int64 { return d.profile.strategy(d.request, n) }},
		{name: "NodeResourcesBalancedAllocation",
			asks:  func(d *decision) bool { return !d.request.idle },
			score: func(d *decision, n *nodeState) int64 { return n.balance(d.request) }},
		{name: "ImageLocality",
			asks:  func(d *decision) bool { return len(d.images.locality) > 0 },
			score: (*decision).locality},
		{name: "ImageRuntime",
			asks:  func(d *decision) bool { return d.images.allWasm && d.images.thirsty && len(d.images.needs) > 0 },
			score: (*decision).compiling},
	}
}

// outside marks a node that a criterion does not apply to; it gets 0.
const outside = math.MinInt64

// intolerable counts the PreferNoSchedule taints that the pod does not tolerate.
func (d *decision) intolerable(n *nodeState) (count int64) {
	for i := range n.soft {
		if !tolerates(d.request.pod.Spec.Tolerations, &n.soft[i]) {
			count++
		}
	}
	return count
}

// proportional gives the highest raw score best.
func proportional(scores []int64) {
	_, high := extremes(scores)
	for i, s := range scores {
		scores[i] = 0
		if high > 0 {
			scores[i] = s * best / high
		}
	}
}

// reversed gives the highest raw score nothing and 0 best.
func reversed(scores []int64) {
	_, high := extremes(scores)
	for i, s := range scores {
		scores[i] = best
		if high > 0 {
			scores[i] = best - s*best/high
		}
	}
}

// stretched gives the lowest raw score nothing and the highest best.
func stretched(scores []int64) {
	low, high := extremes(scores)
	for i, s := range scores {
		scores[i] = 0
		if high > low {
			scores[i] = (s - low) * best / (high - low)
		}
	}
}

// spreadOut gives nodes in crowded domains little, as kube-scheduler does.
func spreadOut(scores []int64) {
	low, high := int64(math.MaxInt64), int64(0)
	for _, s := range scores {
		if s != outside {
			low, high = min(low, s), max(high, s)
		}
	}
	for i, s := range scores {
		switch {
		case s == outside:
			scores[i] = 0
		case high == 0:
			scores[i] = best
		default:
			scores[i] = best * (high + low - s) / high
		}
	}
}

func extremes(scores []int64) (low, high int64) {
	if len(scores) == 0 {
		return 0, 0
	}
	low, high = scores[0], scores[0]
	for _, s := range scores[1:] {
		low, high = min(low, s), max(high, s)
	}
	return low, high
}

// balance favours nodes where CPU and memory are used to the same degree. A
// node where the pod changes nothing about that is as good as it can be.
func (n *nodeState) balance(r *request) int64 {
	if n.allocatable.cpu <= 0 || n.allocatable.memory <= 0 {
		return 0
	}
	cpu := min(1, float64(n.used.cpu+r.need.cpu)/float64(n.allocatable.cpu))
	memory := min(1, float64(n.used.memory+r.need.memory)/float64(n.allocatable.memory))
	return int64((1 - math.Abs(cpu-memory)/2) * best)
}
