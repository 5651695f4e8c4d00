package scheduler

// affinityView is what the pod asks of others, and they of it, with the counts
// that it is judged by
// (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity).
type affinityView struct {
	near, far []*tally   // required by the pod
	self      bool       // the pod is in all sets of near
	repel     []*bearers // placed pods that keep it away
	pull      []*bearers // placed pods that have a preference
	soft      []softTally
}

type softTally struct {
	of     *tally
	weight int64
}

func (d *decision) affinityViews() affinityView {
	var v affinityView
	s, r := d.snapshot, d.request
	s.census.borne.candidates(r, func(b *bearers) {
		if b.total == 0 || !b.term.who.has(r, s.census.spaces) {
			return
		}
		switch {
		case b.kind == requiredAnti:
			v.repel = append(v.repel, b)
		case !b.kind.required && !d.profile.IgnorePreferredTermsOfExistingPods,
			b.kind == requiredAffinity && d.profile.HardPodAffinityWeight > 0:
			v.pull = append(v.pull, b)
		}
	})
	if r.terms == nil {
		return v
	}
	v.self = true
	for _, t := range r.terms.affinity {
		v.near = append(v.near, s.tally(t.who, t.topology, anywhere, false))
		v.self = v.self && t.who.has(r, s.census.spaces)
	}
	for _, t := range r.terms.anti {
		v.far = append(v.far, s.tally(t.who, t.topology, anywhere, false))
	}
	for _, t := range r.terms.preferred {
		v.soft = append(v.soft, softTally{s.tally(t.who, t.topology, anywhere, false), t.weight})
	}
	return v
}

// repelled says whether a placed pod of the node's domain keeps the pod away.
func (v *affinityView) repelled(n *nodeState) bool {
	for _, b := range v.repel {
		if b.at(n) > 0 {
			return true
		}
	}
	return false
}

// crowded says whether the node's domain has a pod that the pod keeps away from.
func (v *affinityView) crowded(n *nodeState) bool {
	for _, t := range v.far {
		if pods, _ := t.at(n); pods > 0 {
			return true
		}
	}
	return false
}

// lonely says whether the node's domains lack pods that the pod wants near. The
// first pod of a group that wants to be together may go anywhere.
func (v *affinityView) lonely(n *nodeState) bool {
	missing, anywhere := false, true
	for _, t := range v.near {
		pods, known := t.at(n)
		if !known {
			return true
		}
		missing = missing || pods == 0
		anywhere = anywhere && t.total == 0
	}
	return missing && !(anywhere && v.self)
}

// liking sums the preferences for the node.
func (v *affinityView) liking(n *nodeState, hardWeight int64) (sum int64) {
	for _, t := range v.soft {
		pods, _ := t.of.at(n)
		sum += t.weight * int64(pods)
	}
	for _, b := range v.pull {
		weight := b.kind.weight
		if b.kind.required {
			weight = hardWeight
		}
		sum += weight * int64(b.at(n))
	}
	return sum
}

// matters says whether there is anything to score.
func (v *affinityView) matters() bool { return len(v.soft)+len(v.pull) > 0 }
