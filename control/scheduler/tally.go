package scheduler

// tally counts the placed pods of a set by topology domain: by the values that
// nodes have of one label. It is kept current with each pod and node that comes
// or goes, so that asking it costs nothing however many pods there are.
type tally struct {
	id       string
	who      *podSet
	topology string
	where    *region
	living   bool // pods that are being deleted do not count

	cells   []cell // by the node's slot
	domains map[string]*domain
	total   int32
	least   lowest
	asked   uint64 // when it was asked last, in decisions
}

// cell is one node's part of a tally.
type cell struct {
	in   *domain // nil: the node does not count
	pods int32
}

// domain is the nodes of one value.
type domain struct {
	value       string
	pods, nodes int32
}

// region says which nodes count.
type region struct {
	id     string
	admits func(*nodeState) bool // nil: all
}

// anywhere is the region of all nodes.
var anywhere = &region{}

// cell returns the node's part.
func (t *tally) cell(n *nodeState) cell {
	if n.slot < len(t.cells) {
		return t.cells[n.slot]
	}
	return cell{}
}

// at returns how many pods the node's domain has; known is false when the node
// is in none.
func (t *tally) at(n *nodeState) (pods int32, known bool) {
	if c := t.cell(n); c.in != nil {
		return c.in.pods, true
	}
	return 0, false
}

// enroll counts a node that is new, or has changed its labels or taints.
func (t *tally) enroll(n *nodeState, spaces spaceLabels) {
	t.withdraw(n)
	value, ok := n.node.Labels[t.topology]
	if !ok || t.where.admits != nil && !t.where.admits(n) {
		return
	}
	for n.slot >= len(t.cells) {
		t.cells = append(t.cells, cell{})
	}
	d := t.domains[value]
	if d == nil {
		d = &domain{value: value}
		t.domains[value] = d
		t.least.enter(0)
	}
	d.nodes++
	c := cell{in: d}
	for _, r := range n.pods {
		if t.counts(r, spaces) {
			c.pods++
		}
	}
	t.cells[n.slot] = c
	t.shift(d, c.pods)
}

// withdraw forgets a node.
func (t *tally) withdraw(n *nodeState) {
	c := t.cell(n)
	if c.in == nil {
		return
	}
	t.cells[n.slot] = cell{}
	t.shift(c.in, -c.pods)
	if c.in.nodes--; c.in.nodes == 0 {
		delete(t.domains, c.in.value)
		t.least.leave(c.in.pods)
	}
}

// counts says whether a placed pod is counted.
func (t *tally) counts(r *request, spaces spaceLabels) bool {
	return (!t.living || r.pod.DeletionTimestamp == nil) && t.who.has(r, spaces)
}

// add counts by more pods on a node, of which counts has said yes.
func (t *tally) add(n *nodeState, by int32) {
	if c := t.cell(n); c.in != nil {
		t.cells[n.slot].pods += by
		t.shift(c.in, by)
	}
}

func (t *tally) shift(d *domain, by int32) {
	if by == 0 {
		return
	}
	t.total += by
	t.least.leave(d.pods)
	d.pods += by
	t.least.enter(d.pods)
}

// lowest is the smallest of many counts that change by little at a time.
type lowest struct {
	having map[int32]int // how many have each count
	min    int32         // valid while there are any
	many   int
}

func (l *lowest) enter(count int32) {
	if l.having == nil {
		l.having = map[int32]int{}
	}
	if l.having[count]++; l.many == 0 || count < l.min {
		l.min = count
	}
	l.many++
}

func (l *lowest) leave(count int32) {
	l.many--
	if l.having[count]--; l.having[count] > 0 {
		return
	}
	delete(l.having, count)
	if count == l.min && l.many > 0 {
		l.climb()
	}
}

// climb finds the next count that some have: mostly the next number.
func (l *lowest) climb() {
	if l.having[l.min+1] > 0 {
		l.min++
		return
	}
	first := true
	for count := range l.having {
		if first || count < l.min {
			l.min, first = count, false
		}
	}
}

// bearers counts by domain the placed pods that bear a term: what they say
// about pods that come later.
type bearers struct {
	term    *term
	kind    bearing
	byNode  map[*nodeState]int32
	byValue map[string]int32
	total   int32
}

// bearing is how a term is meant.
type bearing struct {
	required bool
	weight   int64 // of a preference; of a required affinity 1; -1 of a required anti-affinity
}

var requiredAnti, requiredAffinity = bearing{true, -1}, bearing{true, 1}

func (b *bearers) add(n *nodeState, by int32) {
	b.total += by
	if b.byNode[n] += by; b.byNode[n] == 0 {
		delete(b.byNode, n)
	}
	if n.node != nil {
		if value, ok := n.node.Labels[b.term.topology]; ok {
			b.shift(value, by)
		}
	}
}

func (b *bearers) shift(value string, by int32) {
	if b.byValue[value] += by; b.byValue[value] == 0 {
		delete(b.byValue, value)
	}
}

// relabel moves a node's bearers when its labels change; nil stands for no node.
func (b *bearers) relabel(n *nodeState, before, after map[string]string) {
	pods := b.byNode[n]
	if pods == 0 {
		return
	}
	if value, ok := before[b.term.topology]; ok {
		b.shift(value, -pods)
	}
	if value, ok := after[b.term.topology]; ok {
		b.shift(value, pods)
	}
}

// at returns how many bearers the node's domain has.
func (b *bearers) at(n *nodeState) int32 {
	if len(b.byValue) == 0 {
		return 0
	}
	value, ok := n.node.Labels[b.term.topology]
	if !ok {
		return 0
	}
	return b.byValue[value]
}
