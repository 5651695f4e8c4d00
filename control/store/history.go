package store

import (
	"slices"
	"sort"
	"sync/atomic"
)

// eventOverhead is what an event costs in history beside the superseded value:
// the event, the entry, its place in the lists of the groups.
const eventOverhead = 256

// memosKept is how many of the newest events keep decoded what they have
// superseded. Watchers are seldom further behind, and a decoded object takes
// several times the memory of its bytes, which is all that cost counts.
const memosKept = 1000

// history is the ring of the newest events, and the groups of watchers that
// look at parts of it. Events have positions that count up for ever; the ring
// holds those from base on. It has no lock of its own: the store's guards it.
type history struct {
	limit     int64 // bytes
	bytes     int64
	events    []Event
	base      uint64 // position of events[0]
	compacted uint64 // revision of the newest event (or state) that is gone

	groups  map[string]*group // by prefix
	lengths map[int]int       // length of prefix -> groups with it
}

// group is all watchers of one prefix. It lists the positions of the events
// under the prefix, so that a watcher of few keys neither wakes up for others'
// events nor searches for its own.
type group struct {
	prefix    string
	watchers  int
	positions []uint64
	first     int64  // index of positions[0]; falls when older events are found
	since     uint64 // positions is complete from this position on
	parked    atomic.Bool
	wake      chan struct{} // closed at the next event if somebody is parked
}

func newHistory(limit int64) *history {
	return &history{limit: limit, groups: map[string]*group{}, lengths: map[int]int{}}
}

func (h *history) end() uint64 { return h.base + uint64(len(h.events)) }

// after returns the position of the first event with a greater revision.
func (h *history) after(revision uint64) uint64 {
	return h.base + uint64(sort.Search(len(h.events), func(i int) bool {
		return h.events[i].Entry.Revision > revision
	}))
}

// cost counts the memory that only history holds on to. A new value belongs to
// the live state until the next event supersedes it.
func cost(e Event) int64 {
	c := int64(eventOverhead + len(e.Entry.Key))
	if e.Prev != nil {
		c += int64(len(e.Prev.Value))
	}
	return c
}

func (h *history) append(e Event) {
	position := h.end()
	h.events = append(h.events, e)
	h.bytes += cost(e)
	h.forget()
	h.trim()
	for length := range h.lengths {
		if length > len(e.Entry.Key) {
			continue
		}
		if g := h.groups[e.Entry.Key[:length]]; g != nil {
			g.append(position, h.base)
		}
	}
}

// forget drops the memos of the event that has just become too old for them. Its
// value is live state, or another event's Prev, unless it was a deletion.
func (h *history) forget() {
	n := len(h.events) - memosKept - 1
	if n < 0 {
		return
	}
	if e := h.events[n]; e.Prev != nil {
		e.Prev.forget()
		if e.Deleted {
			e.Entry.forget()
		}
	}
}

// trim drops the oldest events beyond the limit, but never the newest one.
func (h *history) trim() {
	n := 0
	for h.bytes > h.limit && n < len(h.events)-1 {
		h.bytes -= cost(h.events[n])
		h.compacted = h.events[n].Entry.Revision
		n++
	}
	clear(h.events[:n])
	h.events = h.events[n:]
	h.base += uint64(n)
}

func (g *group) append(position, base uint64) {
	gone := 0
	for gone < len(g.positions) && g.positions[gone] < base {
		gone++
	}
	g.positions = append(g.positions[gone:], position)
	g.first += int64(gone)
	if g.parked.Swap(false) {
		close(g.wake)
		g.wake = make(chan struct{})
	}
}

// join adds a watcher to the group of its prefix.
func (h *history) join(prefix string) *group {
	g := h.groups[prefix]
	if g == nil {
		g = &group{prefix: prefix, since: h.end(), wake: make(chan struct{})}
		h.groups[prefix] = g
		h.lengths[len(prefix)]++
	}
	g.watchers++
	return g
}

func (h *history) leave(g *group) {
	if g.watchers--; g.watchers > 0 {
		return
	}
	delete(h.groups, g.prefix)
	if h.lengths[len(g.prefix)]--; h.lengths[len(g.prefix)] == 0 {
		delete(h.lengths, len(g.prefix))
	}
}

// extend looks at up to limit events before those that the group knows, and
// reports whether the group is now complete from position on.
func (h *history) extend(g *group, position uint64, limit int) bool {
	if g.since <= position || g.since <= h.base {
		return true
	}
	low := max(position, h.base)
	if n := uint64(limit); g.since-low > n {
		low = g.since - n
	}
	var found []uint64
	for p := low; p < g.since; p++ {
		if hasPrefix(h.events[p-h.base].Entry.Key, g.prefix) {
			found = append(found, p)
		}
	}
	g.positions = slices.Concat(found, g.positions)
	g.first -= int64(len(found))
	g.since = low
	return low <= position
}

// index returns the index in the group of the first event from position on.
func (g *group) index(position uint64) int64 {
	i, _ := slices.BinarySearch(g.positions, position)
	return g.first + int64(i)
}

// at returns the event with an index in the group. ok is false when there is
// none yet; gone is true when it has left the ring.
func (h *history) at(g *group, index int64) (e Event, ok, gone bool) {
	if index < g.first {
		return Event{}, false, true
	}
	if index >= g.first+int64(len(g.positions)) {
		return Event{}, false, false
	}
	position := g.positions[index-g.first]
	if position < h.base {
		return Event{}, false, true
	}
	return h.events[position-h.base], true, false
}

func hasPrefix(key, prefix string) bool {
	return len(key) >= len(prefix) && key[:len(prefix)] == prefix
}
