package scheduler

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Preemption as documented:
// https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/#preemption.

const (
	whyNoVictims  = "No preemption victims found for incoming pod"
	whyNotHelpful = "Preemption is not helpful for scheduling"
	whyNever      = "not eligible due to preemptionPolicy=Never."
	whyLeaving    = "not eligible due to a terminating pod on the nominated node."
)

// budget is a PodDisruptionBudget with its selector parsed.
type budget struct {
	*policyv1.PodDisruptionBudget
	selector labels.Selector
}

// SetBudget tells about a PodDisruptionBudget.
func (s *Snapshot) SetBudget(b *policyv1.PodDisruptionBudget) {
	s.RemoveBudget(b.Namespace, b.Name)
	s.budgets[b.Namespace] = append(s.budgets[b.Namespace], &budget{b, parsed(b.Spec.Selector)})
}

// RemoveBudget forgets a PodDisruptionBudget.
func (s *Snapshot) RemoveBudget(namespace, name string) {
	rest := slices.DeleteFunc(s.budgets[namespace], func(b *budget) bool { return b.Name == name })
	if len(rest) > 0 {
		s.budgets[namespace] = rest
	} else {
		delete(s.budgets, namespace)
	}
}

// plan is what it takes to make room on a node.
type plan struct {
	node     *nodeState
	victims  []*request // the most important first
	breaking int        // how many budgets are broken
}

// preempt looks for the node where making room for the pod of the decision,
// which no node took, harms least. It returns nil when there is none, and says
// in why.Preemption what came of it.
func (d *decision) preempt(why *Reasons) *plan {
	r := d.request
	if policy := r.pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		why.Preemption = whyNever
		return nil
	}
	if d.makingRoom(why) {
		why.Preemption = whyLeaving
		return nil
	}
	counts := map[string]int{}
	if why.hopeless > 0 {
		counts[whyNotHelpful] = why.hopeless
	}
	want := max(len(why.fixable)*d.profile.CandidateNodesPercentage/100, d.profile.CandidateNodesAbsolute)
	var chosen *plan
	found, sound := 0, 0
	offset := 0
	if len(why.fixable) > 1 {
		offset = d.random.IntN(len(why.fixable))
	}
	for i := range why.fixable {
		n := why.fixable[(i+offset)%len(why.fixable)]
		p := d.clear(n, counts)
		if p == nil {
			continue
		}
		if found++; p.breaking == 0 {
			sound++
		}
		if chosen == nil || milder(p, chosen) {
			chosen = p
		}
		if found >= want && sound > 0 {
			break
		}
	}
	if chosen == nil {
		why.Preemption = available(why.Nodes, counts)
	}
	return chosen
}

// makingRoom says whether pods are leaving the pod's nominated node already, so
// that no others need to.
func (d *decision) makingRoom(why *Reasons) bool {
	n := d.snapshot.byName[d.request.pod.Status.NominatedNodeName]
	if n == nil || !slices.Contains(why.fixable, n) {
		return false
	}
	for _, r := range n.pods {
		if r.priority < d.request.priority && r.pod.DeletionTimestamp != nil {
			return true
		}
	}
	return false
}

// clear finds the fewest pods whose end would make room on the node, sparing
// first those that a budget protects. It is nil when that is not possible; then
// the reason is counted.
func (d *decision) clear(n *nodeState, counts map[string]int) *plan {
	var lesser []*request
	for _, r := range n.pods {
		if r.priority < d.request.priority {
			lesser = append(lesser, r)
		}
	}
	if len(lesser) == 0 {
		counts[whyNoVictims]++
		return nil
	}
	slices.SortFunc(lesser, byImportance)
	for _, r := range lesser {
		d.snapshot.lift(placed{n, r})
	}
	defer func() {
		for _, r := range lesser {
			if _, back := d.snapshot.pods[r.pod.UID]; !back {
				d.snapshot.put(r, n)
			}
		}
	}()
	if !d.fits(n) {
		d.countRefusal(n, counts)
		return nil
	}
	p := &plan{node: n}
	breaking, others := d.snapshot.splitByBudget(lesser)
	spare := func(r *request) bool {
		d.snapshot.put(r, n)
		if d.fits(n) {
			return true
		}
		d.snapshot.lift(placed{n, r})
		p.victims = append(p.victims, r)
		return false
	}
	for _, r := range breaking {
		if !spare(r) {
			p.breaking++
		}
	}
	for _, r := range others {
		spare(r)
	}
	slices.SortFunc(p.victims, byImportance)
	return p
}

func (d *decision) countRefusal(n *nodeState, counts map[string]int) {
	f := d.refusal(n)
	switch {
	case f == nil:
		counts[whyNoVictims]++ // pods that are nominated there are in the way
	case f.why == nil:
		counts[f.text]++
	default:
		for _, text := range f.why(d, n) {
			counts[text]++
		}
	}
}

// byImportance orders pods by priority, then those that have run longer first.
func byImportance(a, b *request) int {
	if c := cmp.Compare(b.priority, a.priority); c != 0 {
		return c
	}
	if c := started(a).Compare(started(b)); c != 0 {
		return c
	}
	return cmp.Compare(a.pod.UID, b.pod.UID)
}

func started(r *request) time.Time {
	if r.pod.Status.StartTime != nil {
		return r.pod.Status.StartTime.Time
	}
	return r.pod.CreationTimestamp.Time
}

// splitByBudget separates the pods whose end would break a budget, when they go
// in this order.
func (s *Snapshot) splitByBudget(pods []*request) (breaking, others []*request) {
	left := map[*budget]int32{}
	for _, r := range pods {
		broken := false
		for _, b := range s.budgets[r.pod.Namespace] {
			if len(r.pod.Labels) == 0 || b.selector.Empty() && b.Spec.Selector == nil || !b.selector.Matches(labels.Set(r.pod.Labels)) {
				continue
			}
			if _, gone := b.Status.DisruptedPods[r.pod.Name]; gone {
				continue // its end is counted already
			}
			if _, seen := left[b]; !seen {
				left[b] = b.Status.DisruptionsAllowed
			}
			if left[b]--; left[b] < 0 {
				broken = true
			}
		}
		if broken {
			breaking = append(breaking, r)
		} else {
			others = append(others, r)
		}
	}
	return breaking, others
}

// milder says whether a does less harm than b, by the documented order: budgets
// broken, highest priority among the victims, sum of priorities, number, and
// how long the most important victim has run.
func milder(a, b *plan) bool {
	c := cmp.Or(
		cmp.Compare(a.breaking, b.breaking),
		cmp.Compare(a.highest(), b.highest()),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.victims), len(b.victims)),
		b.earliest().Compare(a.earliest()),
	)
	return c < 0
}

func (p *plan) highest() int64 {
	if len(p.victims) == 0 {
		return -1 << 32
	}
	return int64(p.victims[0].priority)
}

// sum counts each priority as positive, so that many pods of a negative one do
// not look better than a few.
func (p *plan) sum() (sum int64) {
	for _, r := range p.victims {
		sum += int64(r.priority) + 1<<31
	}
	return sum
}

// earliest is the first start among the victims of the highest priority.
func (p *plan) earliest() (t time.Time) {
	for i, r := range p.victims {
		if r.priority == p.victims[0].priority && (i == 0 || started(r).Before(t)) {
			t = started(r)
		}
	}
	return t
}
