package scheduler

import (
	"k8s.io/apimachinery/pkg/labels"
)

// spaceLabels are the labels of namespaces by name.
type spaceLabels = map[string]labels.Set

// maxTallies bounds the tallies that are kept. One is made again, by a walk
// over the placed pods, when it is asked for after it was dropped.
const maxTallies = 1024

// census holds all counts about placed pods: tallies for what pods that come
// ask of others, bearers for what placed pods say of those that come.
type census struct {
	spaces  spaceLabels
	tallies map[string]*tally
	counted setIndex[*tally]
	bearers map[bearerKey]*bearers
	borne   setIndex[*bearers]
	idle    int    // bearers that nobody bears
	clock   uint64 // decisions so far
}

type bearerKey struct {
	term string
	kind bearing
}

func newCensus() census {
	return census{spaces: spaceLabels{}, tallies: map[string]*tally{}, bearers: map[bearerKey]*bearers{}}
}

// tick begins a decision and drops what nobody has asked for in a while.
func (c *census) tick() {
	c.clock++
	if len(c.tallies) > maxTallies {
		for _, t := range c.tallies {
			if c.clock-t.asked > maxTallies/2 {
				c.drop(t)
			}
		}
	}
	if c.idle > 64 && c.idle > len(c.bearers)/2 {
		for key, b := range c.bearers {
			if b.total == 0 {
				delete(c.bearers, key)
				c.borne.remove(b.term.who, func(o *bearers) bool { return o == b })
			}
		}
		c.idle = 0
	}
}

func (c *census) drop(t *tally) {
	delete(c.tallies, t.id)
	c.counted.remove(t.who, func(o *tally) bool { return o == t })
}

// tally returns the counts of a set by a label, made when they are new.
func (s *Snapshot) tally(who *podSet, topology string, where *region, living bool) *tally {
	id := topology + "|" + where.id + "|" + who.id
	if living {
		id = "living|" + id
	}
	t := s.census.tallies[id]
	if t == nil {
		t = &tally{id: id, who: who, topology: topology, where: where, living: living, domains: map[string]*domain{}}
		for _, n := range s.nodes {
			t.enroll(n, s.census.spaces)
		}
		s.census.tallies[id] = t
		s.census.counted.add(who, t)
	}
	t.asked = s.census.clock
	return t
}

// count takes note of by more pods like r on n.
func (c *census) count(r *request, n *nodeState, by int32) {
	c.counted.candidates(r, func(t *tally) {
		if t.counts(r, c.spaces) {
			t.add(n, by)
		}
	})
	if r.terms == nil {
		return
	}
	for _, t := range r.terms.anti {
		c.bear(t, requiredAnti, n, by)
	}
	for _, t := range r.terms.affinity {
		c.bear(t, requiredAffinity, n, by)
	}
	for _, t := range r.terms.preferred {
		c.bear(t, bearing{weight: t.weight}, n, by)
	}
}

func (c *census) bear(t *term, kind bearing, n *nodeState, by int32) {
	key := bearerKey{t.id, kind}
	b := c.bearers[key]
	if b == nil {
		b = &bearers{term: t, kind: kind, byNode: map[*nodeState]int32{}, byValue: map[string]int32{}}
		c.bearers[key] = b
		c.borne.add(t.who, b)
		c.idle++
	}
	before := b.total
	b.add(n, by)
	switch {
	case before == 0 && b.total > 0:
		c.idle--
	case before > 0 && b.total == 0:
		c.idle++
	}
}

// nodeChanged moves counts after a node came, went or changed what domains and
// regions depend on. before is the labels it had, nil for none.
func (c *census) nodeChanged(n *nodeState, before map[string]string) {
	var after map[string]string
	if n.node != nil {
		after = n.node.Labels
	}
	for _, t := range c.tallies {
		if n.node == nil {
			t.withdraw(n)
		} else {
			t.enroll(n, c.spaces)
		}
	}
	for _, b := range c.bearers {
		b.relabel(n, before, after)
	}
}

// SetNamespace tells the labels of a namespace, for terms that select
// namespaces by them.
func (s *Snapshot) SetNamespace(name string, of map[string]string) {
	if labels.Equals(s.census.spaces[name], of) && s.census.spaces[name] != nil {
		return
	}
	if of == nil {
		of = map[string]string{}
	}
	s.census.spaces[name] = of
	s.census.forgetSpaces()
}

// RemoveNamespace forgets the labels of a namespace.
func (s *Snapshot) RemoveNamespace(name string) {
	delete(s.census.spaces, name)
	s.census.forgetSpaces()
}

// forgetSpaces drops the tallies that depend on namespaces' labels.
func (c *census) forgetSpaces() {
	for _, t := range c.tallies {
		if t.who.ofSpaces != nil && !t.who.ofSpaces.Empty() {
			c.drop(t)
		}
	}
}
