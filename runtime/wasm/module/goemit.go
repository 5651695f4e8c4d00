package module

import "slices"

// goScope is an open block or loop of the new form.
type goScope struct {
	kind   goScopeKind
	header uint32 // the segment that is at its end, or at a loop's beginning
}

type goScopeKind uint8

const (
	goBlock goScopeKind = iota
	goLoop
	goTable  // the loop around everything
	goUnwind // the block around everything
)

// emit writes the function anew.
func (g *goFunction) emit(body []byte, decl localDecl) []byte {
	out := g.write(body, decl)
	if g.flow.failed {
		return body
	}
	return out
}

func (g *goFunction) write(body []byte, decl localDecl) []byte {
	g.fillProbes()
	slices.SortStableFunc(g.edits, func(a, b edit) int { return a.from - b.from })
	at := 0
	for s := range g.segs { // they are in the old order
		seg := &g.segs[s]
		for seg.edits[0] = at; at < len(g.edits) && g.edits[at].from <= seg.to; at++ {
		}
		seg.edits[1] = at
	}
	out := make([]byte, 0, len(body)+len(body)/8)
	if added := g.flow.locals - decl.count; added > 0 {
		out = append(appendU32(out, uint32(decl.groups+1)), body[decl.raw[0]:decl.raw[1]]...)
		out = append(appendU32(out, added), typeI32)
	} else {
		out = append(out, body[:decl.raw[1]]...)
	}
	out = append(out, opGlobalGet, goStackGlobal, opLocalSet, goStackLocal)
	last := g.segs[len(g.segs)-1].to
	if len(g.label) == 0 {
		return append(g.segment(out, body, 0), body[last:]...)
	}
	again := slices.ContainsFunc(g.jumps, func(j goJump) bool { return j.table })
	g.scope = g.scope[:0]
	if g.unwind {
		out = append(out, opBlock, typeEmpty)
		g.scope = append(g.scope, goScope{kind: goUnwind})
	}
	if again {
		out = append(out, opLoop, typeEmpty)
		g.scope = append(g.scope, goScope{kind: goTable})
	}
	out = g.list(out, body, g.nodes, true)
	if g.loop && !again {
		last++ // its end
	}
	return append(out, body[last:]...)
}

// list writes nodes one after another, each behind the end of a block, so that
// all that is before it can branch to it. The outermost list begins with the table.
func (g *goFunction) list(out, body []byte, nodes []goNode, table bool) []byte {
	first := 1
	if table {
		first = 0
	}
	for i := len(nodes) - 1; i >= first; i-- {
		out = append(out, opBlock, typeEmpty)
		g.scope = append(g.scope, goScope{kind: goBlock, header: nodes[i].header})
	}
	if table {
		out = g.writeTable(out)
	}
	for i := range nodes {
		n := &nodes[i]
		if i >= first {
			out = append(out, opEnd)
			g.scope = g.scope[:len(g.scope)-1]
		}
		if n.nodes != nil {
			out = append(out, opLoop, typeEmpty)
			g.scope = append(g.scope, goScope{kind: goLoop, header: n.header})
			out = append(g.list(out, body, n.nodes, false), opEnd)
			g.scope = g.scope[:len(g.scope)-1]
			continue
		}
		out = g.segment(out, body, n.header)
		if g.segs[n.header].falls && (i+1 == len(nodes) || nodes[i+1].header != n.header+1) {
			out = g.fall(out, n.header+1)
		}
	}
	return out
}

// fall goes on to a segment that does not come next.
func (g *goFunction) fall(out []byte, seg uint32) []byte {
	if int(seg) == len(g.segs) {
		return append(out, opUnreachable) // as the toolchain does
	}
	return appendU32(append(out, opBr), g.find(goBlock, seg))
}

// find is the label of a scope. That there is none fails.
func (g *goFunction) find(kind goScopeKind, header uint32) uint32 {
	for i := len(g.scope) - 1; i >= 0; i-- {
		s := g.scope[i]
		if s.kind == kind && (kind > goLoop || s.header == header) || kind == goBlock && s.kind == goLoop && s.header == header {
			return uint32(len(g.scope) - 1 - i)
		}
	}
	g.fail()
	return 0
}

// writeTable writes what continues where a goroutine was, in the innermost
// block, and ends that. Most often it is called to begin.
func (g *goFunction) writeTable(out []byte) []byte {
	kept := func(seg uint32) bool { return seg == 0 || g.segs[seg].resumed || g.segs[seg].back }
	out = append(out, opLocalGet, goResumeLocal, opI32Eqz)
	out = appendU32(append(out, opBrIf), g.find(goBlock, 0))
	if !slices.ContainsFunc(g.label, func(seg uint32) bool { return seg != 0 && kept(seg) }) {
		return append(out, opUnreachable)
	}
	out = append(out, opBlock, typeEmpty, opLocalGet, goResumeLocal, opBrTable)
	out = appendU32(out, uint32(len(g.label)-1))
	for _, seg := range g.label {
		if kept(seg) {
			out = appendU32(out, g.find(goBlock, seg)+1)
		} else {
			out = append(out, 0)
		}
	}
	return append(out, opEnd, opUnreachable)
}

// segment writes one segment.
func (g *goFunction) segment(out, body []byte, s uint32) []byte {
	seg := &g.segs[s]
	from := seg.from
	for _, e := range g.edits[seg.edits[0]:seg.edits[1]] {
		out = append(out, body[from:e.from]...)
		if e.jump >= 0 {
			out = g.appendJump(out, body, &g.jumps[e.jump])
		} else {
			out = append(out, g.arena[e.lo:e.hi]...)
		}
		from = e.to
	}
	return append(out, body[from:seg.to]...)
}

func (g *goFunction) appendJump(out, body []byte, j *goJump) []byte {
	switch {
	case j.unwinds:
		return appendU32(append(out, body[j.branch]), j.depth+g.find(goUnwind, 0))
	case j.table && j.folded:
		out = append(append(out, opIf, typeEmpty), body[j.from+2:j.branch]...)
		return append(appendU32(append(out, opBr), j.depth+g.find(goTable, 0)), opEnd)
	case j.table:
		out = append(out, body[j.from:j.branch]...)
		return appendU32(append(out, opBr), j.depth+g.find(goTable, 0))
	case j.folded:
		return appendU32(append(out, opBrIf), j.depth-1+g.find(goBlock, j.target))
	}
	return appendU32(append(out, opBr), j.depth+g.find(goBlock, j.target))
}

// fillProbes puts the checks for the whole frame where more than one access
// follows.
func (g *goFunction) fillProbes() {
	f := &g.flow
	for _, p := range f.probes {
		if p.uses < 2 {
			continue
		}
		b := appendU32([]byte{opLocalGet}, f.base)
		b = append(appendU32(append(b, opI32Load8U, 0), uint32(f.high-1)), opDrop)
		e := &g.edits[p.edit]
		e.lo = len(g.arena)
		g.arena = append(g.arena, b...)
		e.hi = len(g.arena)
	}
}
