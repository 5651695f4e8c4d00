package module

import "slices"

// The toolchain has no loops but the one around everything. Those that have no
// place in them at which a goroutine is resumed, the small ones, become loops.
// It writes what a loop does before the condition under which it goes on, and
// jumps to the condition first; here a loop begins where it is entered.

// goMostLoop bounds the segments of a loop, because all ways in it are looked at
// more than once.
const goMostLoop = 512

// goNode is a segment, or a loop over nodes.
type goNode struct {
	lo, hi uint32   // the segments that it is made of, which were one after another
	header uint32   // where it begins
	nodes  []goNode // of a loop, in their new order
}

// arrange finds the loops and the segments' new order.
func (g *goFunction) arrange() {
	g.nodes, g.order = g.nodes[:0], g.order[:0]
	for s := range g.segs {
		g.nodes = append(g.nodes, goNode{lo: uint32(s), hi: uint32(s), header: uint32(s)})
	}
	var ranges [][2]uint32
	for s := range g.segs {
		last, back := uint32(s), false
		for i := range g.jumps {
			if j := &g.jumps[i]; !j.unwinds && int(j.target) == s && j.source >= j.target {
				last, back = max(last, j.source), true
			}
		}
		if back {
			ranges = append(ranges, [2]uint32{uint32(s), last})
		}
	}
	slices.SortStableFunc(ranges, func(a, b [2]uint32) int { return int(a[1]-a[0]) - int(b[1]-b[0]) })
	if int64(len(ranges))*int64(len(g.segs)+len(g.jumps)) <= goMostEffort {
		for _, r := range ranges {
			g.makeLoop(r[0], r[1])
		}
	}
	g.flatten(g.nodes)
	at := make([]int, len(g.segs))
	for i, s := range g.order {
		at[s] = i
	}
	for i := range g.jumps {
		j := &g.jumps[i]
		j.table = !j.unwinds && at[j.target] <= at[j.source] && !g.within(g.nodes, j)
		if j.table {
			g.segs[j.target].back = true
		}
	}
}

// within says whether a jump leads back to the beginning of a loop that it is in.
func (g *goFunction) within(nodes []goNode, j *goJump) bool {
	for i := range nodes {
		if n := &nodes[i]; n.nodes != nil && n.lo <= j.source && j.source <= n.hi {
			return n.header == j.target || g.within(n.nodes, j)
		}
	}
	return false
}

func (g *goFunction) flatten(nodes []goNode) {
	for i := range nodes {
		if nodes[i].nodes == nil {
			g.order = append(g.order, nodes[i].header)
			continue
		}
		g.segs[nodes[i].header].header = true
		g.flatten(nodes[i].nodes)
	}
}

// edges calls f for all ways from one segment to another.
func (g *goFunction) edges(f func(from, to uint32)) {
	for s := range g.segs {
		if g.segs[s].falls && s+1 < len(g.segs) {
			f(uint32(s), uint32(s+1))
		}
	}
	for i := range g.jumps {
		if !g.jumps[i].unwinds {
			f(g.jumps[i].source, g.jumps[i].target)
		}
	}
}

// makeLoop makes one node of those of the segments from first to last, if they
// are a loop that is entered in one place.
func (g *goFunction) makeLoop(first, last uint32) {
	a := slices.IndexFunc(g.nodes, func(n goNode) bool { return n.lo == first })
	b := slices.IndexFunc(g.nodes, func(n goNode) bool { return n.lo <= last && last <= n.hi })
	if a < 0 || b < a || last-first > goMostLoop {
		return
	}
	last = g.nodes[b].hi
	header, ok := g.entry(first, last)
	if !ok {
		return
	}
	in := g.nodes[a : b+1]
	h := slices.IndexFunc(in, func(n goNode) bool { return n.header == header })
	if h < 0 {
		return
	}
	loop := goNode{lo: first, hi: last, header: header, nodes: slices.Concat(in[h:], in[:h])}
	if !g.ordered(&loop) {
		return
	}
	g.nodes = slices.Replace(g.nodes, a, b+1, loop)
}

// entry is the one segment at which control comes into a range.
func (g *goFunction) entry(first, last uint32) (header uint32, ok bool) {
	const none = ^uint32(0)
	header, ok = none, true
	enter := func(s uint32) {
		if header == none {
			header = s
		}
		ok = ok && header == s
	}
	inside := func(s uint32) bool { return first <= s && s <= last }
	for s := first; s <= last; s++ {
		if s == 0 || g.segs[s].resumed {
			enter(s)
		}
	}
	g.edges(func(from, to uint32) {
		if !inside(from) && inside(to) {
			enter(to)
		}
	})
	return header, ok && header != none
}

// ordered says whether all ways inside of a loop lead ahead, or to its
// beginning.
func (g *goFunction) ordered(loop *goNode) bool {
	at := func(s uint32) int {
		return slices.IndexFunc(loop.nodes, func(n goNode) bool { return n.lo <= s && s <= n.hi })
	}
	ok := true
	g.edges(func(from, to uint32) {
		if from < loop.lo || from > loop.hi || to < loop.lo || to > loop.hi || to == loop.header {
			return
		}
		a, b := at(from), at(to)
		ok = ok && (a < b && loop.nodes[b].header == to || a == b && loop.nodes[a].nodes != nil)
	})
	return ok
}
