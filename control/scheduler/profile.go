package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Name is the schedulerName of pods that ask for no other.
const Name = corev1.DefaultSchedulerName

// Profile is one way to schedule, for the pods that name it
// (https://kubernetes.io/docs/reference/scheduling/config/#profiles). It is
// fixed once it is in use.
type Profile struct {
	SchedulerName string
	// PercentageOfNodesToScore is how many nodes that take a pod are enough to
	// choose among; 0: from half of them in small clusters down to 5 % in large
	// ones. At least 100 are always looked for.
	PercentageOfNodesToScore int64
	// HardPodAffinityWeight is what a placed pod's required affinity counts for
	// as a preference, 0 to 100.
	HardPodAffinityWeight              int64
	IgnorePreferredTermsOfExistingPods bool
	// AddedAffinity is node affinity that all pods get; nil: none.
	AddedAffinity *corev1.NodeAffinity
	// SpreadDefaults are the constraints of pods that have none, for the pods of
	// their owner or of their Services.
	SpreadDefaults []corev1.TopologySpreadConstraint
	// Scoring says how much of a node should be used.
	Scoring Scoring
	// CandidateNodesPercentage and CandidateNodesAbsolute bound the search for
	// nodes where pods could be preempted; both are lower bounds.
	CandidateNodesPercentage, CandidateNodesAbsolute int

	filters   []filter
	scorers   []weighted
	preempts  bool
	implied   bool // SpreadDefaults are the system's
	required  *nodeMatch
	preferred *nodeaffinity.PreferredSchedulingTerms
}

type weighted struct {
	scorer
	weight int64
}

// Scoring is the strategy of the plugin NodeResourcesFit.
type Scoring struct {
	Type      string // LeastAllocated, MostAllocated or RequestedToCapacityRatio
	Resources []ResourceWeight
	Shape     []ShapePoint // of RequestedToCapacityRatio, by rising utilization
}

// ResourceWeight is how much a resource counts.
type ResourceWeight struct {
	Name   corev1.ResourceName
	Weight int64
}

// ShapePoint gives a score, 0 to 10, at a utilization in percent.
type ShapePoint struct{ Utilization, Score int64 }

// The strategies of Scoring.
const (
	LeastAllocated           = "LeastAllocated"
	MostAllocated            = "MostAllocated"
	RequestedToCapacityRatio = "RequestedToCapacityRatio"
)

// defaultWeights are those of kube-scheduler's default plugins.
func defaultWeights() map[string]int64 {
	return map[string]int64{"TaintToleration": 3, "NodeAffinity": 2, "PodTopologySpread": 2, "InterPodAffinity": 2,
		"NodeResourcesFit": 1, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1, "ImageRuntime": 1}
}

// systemSpread are the constraints of pods that have none, as documented.
func systemSpread() []corev1.TopologySpreadConstraint {
	return []corev1.TopologySpreadConstraint{
		{MaxSkew: 3, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway},
		{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway},
	}
}

// DefaultProfile is the profile of a scheduler without configuration.
func DefaultProfile() *Profile {
	p := &Profile{SchedulerName: Name, HardPodAffinityWeight: 1, SpreadDefaults: systemSpread(), implied: true, preempts: true,
		CandidateNodesPercentage: 10, CandidateNodesAbsolute: 100,
		Scoring: Scoring{Type: LeastAllocated, Resources: []ResourceWeight{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}},
		filters: filters()}
	weights := defaultWeights()
	for _, s := range scorers() {
		p.scorers = append(p.scorers, weighted{s, weights[s.name]})
	}
	return p
}

// complete prepares what the settings mean.
func (p *Profile) complete() error {
	if p.AddedAffinity == nil {
		return nil
	}
	if required := p.AddedAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		p.required = newNodeMatch(nil, required)
	}
	if terms := p.AddedAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
		preferred, err := nodeaffinity.NewPreferredSchedulingTerms(terms)
		if err != nil {
			return err
		}
		p.preferred = preferred
	}
	return nil
}

// admits says whether the node has what all pods of the profile want.
func (p *Profile) admits(n *nodeState) bool {
	return p.required == nil || p.required.matches(n.node)
}

// rules are the spread constraints of the pod: its own or the profile's.
func (d *decision) rules() []spreadRule {
	p, r := d.profile, d.request
	if len(r.spread) > 0 || len(p.SpreadDefaults) == 0 {
		return r.spread
	}
	who := d.snapshot.peers(r)
	if who == nil {
		return nil
	}
	out := make([]spreadRule, 0, len(p.SpreadDefaults))
	for i := range p.SpreadDefaults {
		rule := newSpreadRule(&p.SpreadDefaults[i], who)
		rule.implied = p.implied
		out = append(out, rule)
	}
	return out
}

// strategy scores a node by how much of it would be used.
func (p *Profile) strategy(r *request, n *nodeState) int64 {
	var sum, weights int64
	for _, of := range p.Scoring.Resources {
		used, allocatable := n.usage(r, of.Name)
		if allocatable <= 0 {
			continue
		}
		sum += of.Weight * p.Scoring.score(used, allocatable)
		weights += of.Weight
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

func (s *Scoring) score(used, allocatable int64) int64 {
	switch s.Type {
	case MostAllocated:
		return min(used, allocatable) * best / allocatable
	case RequestedToCapacityRatio:
		return s.shape(min(used*100/allocatable, 100))
	}
	if used > allocatable {
		return 0
	}
	return (allocatable - used) * best / allocatable
}

// shape reads the score at a utilization off the line through the points.
func (s *Scoring) shape(utilization int64) int64 {
	i := slices.IndexFunc(s.Shape, func(p ShapePoint) bool { return utilization <= p.Utilization })
	switch {
	case len(s.Shape) == 0:
		return 0
	case i < 0:
		return s.Shape[len(s.Shape)-1].Score * best / 10
	case i == 0:
		return s.Shape[0].Score * best / 10
	}
	a, b := s.Shape[i-1], s.Shape[i]
	return (a.Score + (b.Score-a.Score)*(utilization-a.Utilization)/(b.Utilization-a.Utilization)) * best / 10
}

// usage is what would be used of a resource with the pod, and what there is.
func (n *nodeState) usage(r *request, name corev1.ResourceName) (used, allocatable int64) {
	switch name {
	case corev1.ResourceCPU:
		return n.weighed.cpu + r.weigh.cpu, n.allocatable.cpu
	case corev1.ResourceMemory:
		return n.weighed.memory + r.weigh.memory, n.allocatable.memory
	case corev1.ResourceEphemeralStorage:
		return n.used.storage + r.need.storage, n.allocatable.storage
	}
	if r.need.extended[name] == 0 {
		return 0, 0 // of no concern to this pod
	}
	return n.used.extended[name] + r.need.extended[name], n.allocatable.extended[name]
}
