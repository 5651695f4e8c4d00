package scheduler

import (
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Pick chooses a node for the pod as the profile says. node is "" when none
// takes it; then why says the reasons. random decides among equals. The
// snapshot is the same afterwards.
func Pick(pod *corev1.Pod, s *Snapshot, p *Profile, random *rand.Rand) (node string, why Reasons) {
	d := decision{snapshot: s, random: random}
	return d.pick(newRequest(pod), p)
}

// decision is what one pick works with: the pod, its profile, and the counts
// that its rules are judged by. It keeps its lists for the next one.
type decision struct {
	snapshot *Snapshot
	known    Images // nil: all images run everywhere
	random   *rand.Rand
	from     int // where the next search of nodes begins

	profile    *Profile
	request    *request
	filters    []*filter // those that apply
	hard, soft []spreadView
	others     affinityView
	volumes    volumeView
	images     imageView
	softTaints bool

	options []*nodeState
	scores  []int64
	raw     []int64
}

// enough is the fewest nodes that a choice is made among, where there are so
// many.
const enough = 100

// prepare reads what the pod asks into the decision.
func (d *decision) prepare(r *request, p *Profile) {
	d.snapshot.census.tick()
	d.profile, d.request = p, r
	d.view()
	d.filters = d.filters[:0]
	for i := range p.filters {
		if f := &p.filters[i]; f.asks == nil || f.asks(d) {
			d.filters = append(d.filters, f)
		}
	}
}

// view looks up the counts that the pod's rules are judged by. The counts stay
// current; which of them matter changes when a pod with rules is placed.
func (d *decision) view() {
	rules := d.rules()
	d.hard, d.soft = d.spreadViews(rules, true), d.spreadViews(rules, false)
	d.others = d.affinityViews()
	d.volumes = d.volumeView()
	d.images = d.imageView(d.known)
}

func (d *decision) pick(r *request, p *Profile) (string, Reasons) {
	d.prepare(r, p)
	if d.volumes.problem != "" {
		return "", Reasons{Nodes: len(d.snapshot.nodes), General: d.volumes.problem, freed: volumeChanges, hopeless: len(d.snapshot.nodes)}
	}
	d.search()
	if len(d.options) == 0 {
		return "", d.reasons()
	}
	return d.choose().name, Reasons{}
}

// search collects nodes that take the pod: as many as are enough, going on
// where the last search ended, so that all nodes get their turn.
func (d *decision) search() {
	d.options = d.options[:0]
	if d.request.pinned != nil {
		for _, name := range d.request.pinned {
			if n := d.snapshot.byName[name]; n != nil && n.node != nil && d.fits(n) {
				d.options = append(d.options, n)
			}
		}
		return
	}
	all := d.snapshot.nodes
	if n := d.snapshot.byName[d.request.pod.Status.NominatedNodeName]; n != nil && n.node != nil && d.fits(n) {
		d.options = append(d.options, n) // room was made for it there
		return
	}
	want := d.profile.wanted(len(all))
	for i := range all {
		at := d.from + i
		if at >= len(all) {
			at %= len(all)
		}
		if n := all[at]; d.fits(n) {
			if d.options = append(d.options, n); len(d.options) >= want {
				d.from = (at + 1) % len(all)
				return
			}
		}
	}
}

// wanted is how many nodes that take a pod are enough to choose among.
func (p *Profile) wanted(nodes int) int {
	percent := int(p.PercentageOfNodesToScore)
	if percent == 0 {
		percent = max(50-nodes/125, 5)
	}
	return min(nodes, max(enough, nodes*percent/100))
}

// fits says whether the node takes the pod, both with and without the pods
// that are to come there and are no less important.
func (d *decision) fits(n *nodeState) bool {
	if len(n.nominated) > 0 && !d.fitsBeside(n) {
		return false
	}
	return d.fitsNow(n)
}

// fitsNow is the hot path.
func (d *decision) fitsNow(n *nodeState) bool {
	for _, f := range d.filters {
		if f.refuses(d, n) {
			return false
		}
	}
	return true
}

// fitsBeside is fitsNow with the nominated pods in place.
func (d *decision) fitsBeside(n *nodeState) (fits bool) {
	d.beside(n, func() { fits = d.fitsNow(n) })
	return fits
}

// beside runs f while the pods that are nominated to the node and no less
// important than the request are placed there.
func (d *decision) beside(n *nodeState, f func()) {
	var came []*request
	for uid, r := range n.nominated {
		if uid != d.request.pod.UID && r.priority >= d.request.priority {
			if _, there := d.snapshot.pods[uid]; !there {
				came = append(came, r)
			}
		}
	}
	if len(came) == 0 {
		f()
		return
	}
	others := d.others
	for _, r := range came {
		d.snapshot.put(r, n)
	}
	d.others = d.affinityViews() // they may keep the pod away
	f()
	for _, r := range came {
		d.snapshot.lift(d.snapshot.pods[r.pod.UID])
	}
	d.others = others
}

// choose returns the option with the highest score, at random among equals.
func (d *decision) choose() *nodeState {
	if len(d.options) == 1 {
		return d.options[0]
	}
	d.score()
	var chosen *nodeState
	var top int64
	equals := 0
	for i, n := range d.options {
		switch {
		case chosen == nil || d.scores[i] > top:
			chosen, top, equals = n, d.scores[i], 1
		case d.scores[i] == top:
			if equals++; d.random.IntN(equals) == 0 {
				chosen = n
			}
		}
	}
	return chosen
}

// score fills d.scores with the sum of all criteria for each option.
func (d *decision) score() {
	count := len(d.options)
	d.scores, d.raw = slices.Grow(d.scores[:0], count)[:count], slices.Grow(d.raw[:0], count)[:count]
	clear(d.scores)
	d.softTaints = slices.ContainsFunc(d.options, func(n *nodeState) bool { return len(n.soft) > 0 })
	for i := range d.profile.scorers {
		s := &d.profile.scorers[i]
		if s.weight == 0 || s.asks != nil && !s.asks(d) {
			continue
		}
		for i, n := range d.options {
			d.raw[i] = s.score(d, n)
		}
		if s.finish != nil {
			s.finish(d.raw)
		}
		for i := range d.options {
			d.scores[i] += s.weight * d.raw[i]
		}
	}
}

// reasons asks all nodes why they refused.
func (d *decision) reasons() Reasons {
	s := d.snapshot
	why := Reasons{Nodes: len(s.nodes), Counts: map[string]int{}, freed: nodeComes}
	for _, n := range s.nodes {
		if d.request.pinned != nil && !slices.Contains(d.request.pinned, n.name) {
			why.Counts["node(s) didn't satisfy plugin(s) [NodeAffinity]"]++
			why.hopeless++
			continue
		}
		f := d.refusal(n)
		if f == nil {
			d.beside(n, func() { d.note(&why, n, d.refusal(n)) })
			why.freed |= podLeaves
			continue
		}
		d.note(&why, n, f)
	}
	return why
}

// refusal is the first filter that refuses the node, nil when none does.
func (d *decision) refusal(n *nodeState) *filter {
	for _, f := range d.filters {
		if f.refuses(d, n) {
			return f
		}
	}
	return nil
}

// note counts the texts of a node's refusal.
func (d *decision) note(why *Reasons, n *nodeState, f *filter) {
	if f == nil {
		return
	}
	why.freed |= f.freed
	if f.why == nil {
		why.Counts[f.text]++
	} else {
		for _, text := range f.why(d, n) {
			why.Counts[text]++
		}
	}
	if f.final != nil && f.final(d, n) {
		why.hopeless++
	} else {
		why.fixable = append(why.fixable, n)
	}
}
