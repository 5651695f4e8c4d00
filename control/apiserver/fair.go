package apiserver

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// maxWaiting bounds how many requests of one flow wait for a place, where no
	// priority level says it; more are told to come again.
	maxWaiting = 128
	// maxWaitingAll bounds the same for all flows together.
	maxWaitingAll = 4096
)

// seats are the places for requests at work. When all are taken, each flow (the
// requests of a user, most often) has a queue of its own and the flows take
// turns, so that one who sends a thousand requests waits for them, and not the
// others. Places that nobody takes are lent to others (lend.go). It is safe for
// concurrent use.
type seats struct {
	mu sync.Mutex
	room
	free     int // below 0: more are at work than there are places, since these became fewer
	lent     int // places that others have
	borrowed int // places of others
	queues   map[string][]*seatWaiter
	turns    []string // flows with a queue, whose turn is next first
	waiting  int
}

// room is how much there is.
type room struct {
	places   int
	lendable int      // of the places, how many others may have
	borrows  int      // how many of others may be had; below 0: any number
	lenders  []*seats // whom from
	each     int      // how many of a flow may wait
	together int      // how many of all flows may wait
}

type seatWaiter struct {
	given  chan struct{} // closed when the place is there
	lender *seats        // whose place it is; nil: of those it has waited for
}

func newSeats(n int) *seats {
	return &seats{free: n, room: room{places: n, each: maxWaiting, together: maxWaitingAll}, queues: map[string][]*seatWaiter{}}
}

// resize changes how many places there are, and how many requests may wait for
// one.
func (s *seats) resize(now room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += now.places - s.places
	s.room = now
	s.seat()
}

// try takes a place if one is free.
func (s *seats) try() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free <= 0 {
		return false
	}
	s.free--
	return true
}

// take waits for a place for a request of a flow until ctx ends, and tells whose
// it is, for leave. A StatusError says that there are too many who wait.
func (s *seats) take(ctx context.Context, flow string) (lender *seats, err error) {
	s.mu.Lock()
	if s.free <= 0 && s.waiting == 0 && s.mayBorrow() {
		s.mu.Unlock()
		if lender := s.borrow(); lender != nil {
			return lender, nil
		}
		s.mu.Lock()
	}
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil, nil
	}
	queue := s.queues[flow]
	if len(queue) >= s.each || s.waiting >= s.together {
		s.mu.Unlock()
		return nil, errTooMany()
	}
	w := &seatWaiter{given: make(chan struct{})}
	if len(queue) == 0 {
		s.turns = append(s.turns, flow)
	}
	s.queues[flow] = append(queue, w)
	s.waiting++
	s.mu.Unlock()
	s.pull()
	select {
	case <-w.given:
		return w.lender, nil
	case <-ctx.Done():
	}
	if s.forget(flow, w) {
		return nil, ctx.Err()
	}
	// It was given at the same moment.
	s.leave(w.lender)
	return nil, ctx.Err()
}

// leave gives a place back, which take has given: to the first request of the
// flow whose turn it is.
func (s *seats) leave(lender *seats) {
	if lender != nil {
		s.giveBack(lender)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.seat()
}

// seat gives free places to those who wait. The lock is held.
func (s *seats) seat() {
	for s.free > 0 && len(s.turns) > 0 {
		s.free--
		close(s.next().given)
	}
}

// next takes the one whose turn it is out of its queue. The lock is held, and
// somebody waits.
func (s *seats) next() *seatWaiter {
	flow := s.turns[0]
	s.turns = s.turns[1:]
	queue := s.queues[flow]
	first := queue[0]
	queue[0] = nil
	if s.queues[flow] = queue[1:]; len(queue) > 1 {
		s.turns = append(s.turns, flow)
	} else {
		delete(s.queues, flow)
	}
	s.waiting--
	return first
}

// forget takes a request that no longer waits out of its queue. false: it has
// been given a place.
func (s *seats) forget(flow string, w *seatWaiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.queues[flow]
	for i, other := range queue {
		if other != w {
			continue
		}
		s.waiting--
		if len(queue) == 1 {
			delete(s.queues, flow)
			for j, name := range s.turns {
				if name == flow {
					s.turns = append(s.turns[:j:j], s.turns[j+1:]...)
					break
				}
			}
			return true
		}
		s.queues[flow] = append(queue[:i:i], queue[i+1:]...)
		return true
	}
	return false
}

func errTooMany() error {
	return apierrors.NewTooManyRequests("The apiserver cannot complete this request right now: too many requests, please try again later", 1)
}
