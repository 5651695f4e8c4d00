package scheduler

import (
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Back-off of a pod between two attempts, doubled with each. An event that may
// help shortens a wait to it; without any, a pod is tried again after a while.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 10 * time.Second
	parkedFor    = 5 * time.Minute
)

// item is a pod that wants a node.
type item struct {
	request  *request
	order    uint64    // of arrival
	attempts int       // that failed
	freed    happening // what may help
	room     bool      // nothing but room was missing
	ready    time.Time // end of the back-off
	due      time.Time // in waiting: when it is tried again
	parked   happening // in waiting: what it waits for beside time
	active   bool      // in which of the two heaps
	position int       // in its heap, -1 in none
	since    time.Time // when it came; for traces
}

// queue holds the pods that want a node, each once. It has one user at a time.
type queue struct {
	items       map[types.UID]*item
	active      activeHeap
	waiting     waitingHeap
	parked      map[happening]int // how many wait for each
	arrived     uint64
	first, last time.Duration // of the back-off
}

func newQueue() *queue {
	return &queue{items: map[types.UID]*item{}, parked: map[happening]int{}, first: firstBackoff, last: lastBackoff}
}

// put adds a pod or takes note of its new state, and returns its item. A pod whose spec, labels or
// annotations changed is tried again at once.
func (q *queue) put(pod *corev1.Pod, changed bool) *item {
	it := q.items[pod.UID]
	if it == nil {
		q.arrived++
		it = &item{request: newRequest(pod), order: q.arrived, position: -1}
		q.items[pod.UID] = it
		q.activate(it)
		return it
	}
	if !changed {
		it.request.pod = pod
		return it
	}
	it.request = newRequest(pod)
	it.attempts = 0
	q.activate(it)
	return it
}

// again returns an item whose attempt failed; it waits until its back-off has
// passed or, parked, until an event may help.
func (q *queue) again(it *item, now time.Time, parked bool) {
	wait := q.last
	if it.attempts < 16 {
		wait = min(q.first<<it.attempts, q.last)
	}
	it.attempts++
	it.ready = now.Add(wait)
	it.due = it.ready
	if parked {
		it.due = now.Add(parkedFor)
	}
	q.unheap(it)
	q.items[it.request.pod.UID] = it
	heap.Push(&q.waiting, it)
	if parked {
		it.parked = it.freed
		q.parked[it.parked]++
	}
}

// unpark forgets that an item waits for something to happen.
func (q *queue) unpark(it *item) {
	if it.parked == 0 {
		return
	}
	if q.parked[it.parked]--; q.parked[it.parked] == 0 {
		delete(q.parked, it.parked)
	}
	it.parked = 0
}

// anyParked says whether an item waits for what has happened.
func (q *queue) anyParked(happened happening) bool {
	for waitsFor := range q.parked {
		if waitsFor&happened != 0 {
			return true
		}
	}
	return false
}

// wake makes the waiting pods for which helps is true ready, after what is
// left of their back-off.
func (q *queue) wake(helps func(*item) bool) {
	var woken []*item
	for _, it := range q.waiting {
		if it.due.After(it.ready) && helps(it) {
			woken = append(woken, it)
		}
	}
	for _, it := range woken {
		it.due = it.ready
		q.unpark(it)
		heap.Fix(&q.waiting, it.position)
	}
}

// pop takes the next pod: the highest priority first, then the first to
// arrive. It is nil when none is ready; then wait says how long until one is,
// 0 when none waits.
func (q *queue) pop(now time.Time) (next *item, wait time.Duration) {
	for len(q.waiting) > 0 && !q.waiting[0].due.After(now) {
		q.activate(q.waiting[0])
	}
	if len(q.active) > 0 {
		it := heap.Pop(&q.active).(*item)
		delete(q.items, it.request.pod.UID)
		return it, 0
	}
	if len(q.waiting) > 0 {
		return nil, q.waiting[0].due.Sub(now)
	}
	return nil, 0
}

func (q *queue) remove(uid types.UID) {
	if it := q.items[uid]; it != nil {
		q.unheap(it)
		delete(q.items, uid)
	}
}

func (q *queue) activate(it *item) {
	if it.position >= 0 && it.active {
		heap.Fix(&q.active, it.position)
		return
	}
	q.unheap(it)
	it.active = true
	heap.Push(&q.active, it)
}

func (q *queue) unheap(it *item) {
	q.unpark(it)
	if it.position < 0 {
		it.active = false
		return
	}
	if it.active {
		heap.Remove(&q.active, it.position)
	} else {
		heap.Remove(&q.waiting, it.position)
	}
	it.active = false
}

// activeHeap orders by priority, then arrival.
type activeHeap []*item

func (h activeHeap) Len() int { return len(h) }
func (h activeHeap) Less(i, j int) bool {
	if a, b := h[i].request.priority, h[j].request.priority; a != b {
		return a > b
	}
	return h[i].order < h[j].order
}
func (h activeHeap) Swap(i, j int) { swap(h, i, j) }
func (h *activeHeap) Push(x any)   { *h = push(*h, x.(*item)) }
func (h *activeHeap) Pop() any {
	var it *item
	*h, it = pop(*h)
	return it
}

// waitingHeap orders by the time of the next attempt.
type waitingHeap []*item

func (h waitingHeap) Len() int           { return len(h) }
func (h waitingHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h waitingHeap) Swap(i, j int)      { swap(h, i, j) }
func (h *waitingHeap) Push(x any)        { *h = push(*h, x.(*item)) }
func (h *waitingHeap) Pop() any {
	var it *item
	*h, it = pop(*h)
	return it
}

func swap(h []*item, i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].position, h[j].position = i, j
}

func push(h []*item, it *item) []*item {
	it.position = len(h)
	return append(h, it)
}

func pop(h []*item) ([]*item, *item) {
	it := h[len(h)-1]
	h[len(h)-1] = nil
	it.position = -1
	return h[:len(h)-1], it
}
