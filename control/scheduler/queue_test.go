package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func prio(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func TestQueueOrder(t *testing.T) {
	q := newQueue()
	for _, p := range []*corev1.Pod{pod("low", "", prio(-1)), pod("a", ""), pod("high", "", prio(9)), pod("b", ""), pod("a", "")} {
		q.put(p, false)
	}
	for _, want := range []string{"high", "a", "b", "low"} {
		it, _ := q.pop(time.Time{})
		if it == nil || it.request.pod.Name != want {
			t.Fatalf("got %v, want %s", it, want)
		}
	}
	if it, wait := q.pop(time.Time{}); it != nil || wait != 0 {
		t.Error("queue is not empty")
	}
}

func TestQueueBackoffDoubles(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	q.put(pod("a", ""), false)
	for attempt := range 12 {
		it, _ := q.pop(now)
		q.again(it, now, false)
		_, wait := q.pop(now)
		if want := min(firstBackoff<<attempt, lastBackoff); wait != want {
			t.Errorf("attempt %d waits %v, want %v", attempt, wait, want)
		}
		now = now.Add(wait)
	}
}

func TestQueueParksAndWakes(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	q.put(pod("room", ""), false)
	q.put(pod("taint", ""), false)
	for range 2 {
		it, _ := q.pop(now)
		it.freed = nodeChanges
		if it.request.pod.Name == "room" {
			it.freed = podLeaves
		}
		q.again(it, now, true)
	}
	if _, wait := q.pop(now); wait != parkedFor {
		t.Errorf("parked for %v", wait)
	}
	if !q.anyParked(podLeaves) || q.anyParked(imageKnown) {
		t.Error("anyParked")
	}
	q.wake(func(it *item) bool { return it.freed&podLeaves != 0 })
	if q.anyParked(podLeaves) {
		t.Error("still parked")
	}
	if it, wait := q.pop(now); it != nil || wait != firstBackoff {
		t.Errorf("woken: %v, %v; want the rest of the back-off", it, wait)
	}
	if it, _ := q.pop(now.Add(firstBackoff)); it == nil || it.request.pod.Name != "room" {
		t.Error("the one that waits for room is not ready")
	}
	if it, _ := q.pop(now.Add(parkedFor)); it == nil || it.request.pod.Name != "taint" {
		t.Error("a parked pod is not tried again after a while")
	}
}

func TestQueueChangedPodIsTriedAtOnce(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	q.put(pod("a", ""), false)
	it, _ := q.pop(now)
	q.again(it, now, true)
	q.put(pod("a", ""), false) // its status changed, no more
	if it, _ := q.pop(now); it != nil {
		t.Error("status change woke the pod")
	}
	q.put(pod("a", "cpu=1"), true)
	if it, _ := q.pop(now); it == nil || it.request.need.cpu != 1000 {
		t.Error("changed pod is not ready with its new request")
	}
}

// The queue loses no pod and gives none twice, whatever the order of calls.
func TestQueueLosesNothing(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		q, now := newQueue(), time.Unix(1000, 0)
		inside := map[types.UID]bool{}
		for range 300 {
			p := pod(fmt.Sprint(r.IntN(20)), "", prio(int32(r.IntN(3))))
			switch r.IntN(6) {
			case 0, 1:
				q.put(p, r.IntN(2) == 0)
				inside[p.UID] = true
			case 2:
				q.remove(p.UID)
				delete(inside, p.UID)
			case 3, 4:
				if it, _ := q.pop(now); it != nil {
					uid := it.request.pod.UID
					if !inside[uid] {
						t.Fatalf("seed %d: popped a pod that is not inside", seed)
					}
					delete(inside, uid)
					if r.IntN(2) == 0 {
						q.again(it, now, r.IntN(2) == 0)
						inside[uid] = true
					}
				}
			case 5:
				now = now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
				q.wake(func(*item) bool { return r.IntN(2) == 0 })
			}
			if len(q.items) != len(inside) || len(q.active)+len(q.waiting) != len(inside) {
				t.Fatalf("seed %d: %d items, %d in heaps, want %d", seed, len(q.items), len(q.active)+len(q.waiting), len(inside))
			}
		}
		for range inside {
			if it, _ := q.pop(now.Add(time.Hour)); it == nil {
				t.Fatalf("seed %d: a pod is stuck", seed)
			}
		}
	}
}
