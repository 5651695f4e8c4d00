package module

// Which functions lower the fuel at their entry. A charge costs some percent of
// a small function, so only those pay that must: without a charge, no cycle of
// calls may be left, and no function may do much work. What the others do is
// part of their callers' charges. A call inside a loop is behind the loop's
// charge, so that only those outside matter.
//
// Calls through a table can lead anywhere. Functions that make such calls are
// charged, so every cycle through a table has a charge in it.

// mostUncharged is the work that a function may leave to its callers, with that
// of the functions that it calls. A call through a table pays as much, because
// it cannot know.
const mostUncharged = 48

// callFacts is what one pass over a function's body tells.
type callFacts struct {
	calls    []uint32 // as in bodyWriter
	indirect bool     // as in bodyWriter
	covered  bool     // as in bodyWriter
}

// plan reads all bodies and decides which functions are charged.
func (w *bodyWriter) plan() error {
	n := len(w.p.funcs)
	w.bounds, w.charged = make([]int64, n), make([]bool, n)
	facts := make([]callFacts, len(w.p.bodies))
	total := int64(0)
	for i := range facts {
		if err := w.scanBody(uint32(i)); err != nil {
			return err
		}
		if total += w.extent.effort(); total > maxEffortOfAll {
			return invalid("the module's functions have so many variables and blocks that it would take too long to compile; build it without inlining that much, or as several modules")
		}
		facts[i] = callFacts{indirect: w.indirect, covered: w.covered}
		if !w.covered { // a loop's charge breaks every cycle
			facts[i].calls = append([]uint32(nil), w.calls...)
		}
		for _, c := range w.patches {
			if c.kind == patchMemory {
				w.pieces.copies = w.pieces.copies || c.val == miscMemoryCopy
				w.pieces.fills = w.pieces.fills || c.val == miscMemoryFill
			}
		}
	}
	return w.charge(facts)
}

// scanBody scans function f, which does not count imported ones.
func (w *bodyWriter) scanBody(f uint32) error {
	r, locals, err := readLocals(w.p.bodies[f], w.p.types[w.p.funcs[f+w.p.imported]])
	if err != nil {
		return err
	}
	return w.scan(r, locals.count)
}

// charge walks over the graph of calls depth first, without recursion: a
// hostile graph may be a million calls deep.
func (w *bodyWriter) charge(facts []callFacts) error {
	const unseen, open, closed = 0, 1, 2
	state := make([]byte, len(facts))
	type visit struct {
		f    uint32 // without the imported functions
		next int    // of its calls
	}
	var path []visit
	for root := range facts {
		if state[root] != unseen {
			continue
		}
		state[root] = open
		path = append(path, visit{f: uint32(root)})
		for len(path) > 0 {
			top := &path[len(path)-1]
			fact := &facts[top.f]
			if top.next == len(fact.calls) {
				state[top.f] = closed
				if err := w.settle(top.f, fact); err != nil {
					return err
				}
				path = path[:len(path)-1]
				continue
			}
			to := fact.calls[top.next]
			top.next++
			switch state[to] {
			case unseen:
				state[to] = open
				path = append(path, visit{f: to})
			case open: // a cycle: its entry is charged
				w.charged[to+w.p.imported] = !facts[to].covered
			}
		}
	}
	return nil
}

// settle decides about a function when those that it calls are settled, or
// charged because they are on the way to it.
func (w *bodyWriter) settle(f uint32, fact *callFacts) error {
	index := f + w.p.imported
	if fact.covered || w.charged[index] {
		return nil
	}
	if err := w.scanBody(f); err != nil { // again: what its calls cost is known now
		return err
	}
	if fact.indirect || w.returned > mostUncharged {
		w.charged[index] = true
	} else {
		w.bounds[index] = w.returned
	}
	return nil
}
