package apiserver

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// maxWaiting bounds how many requests of one user wait for a place; more
	// are told to come again.
	maxWaiting = 128
	// maxWaitingAll bounds the same for all users together.
	maxWaitingAll = 4096
)

// seats are the places for requests at work. When all are taken, each user has
// a queue of its own and the users take turns, so that one who sends a
// thousand requests waits for them, and not the others. It is safe for
// concurrent use.
type seats struct {
	mu      sync.Mutex
	free    int
	queues  map[string][]*seatWaiter
	turns   []string // users with a queue, whose turn is next first
	waiting int
}

type seatWaiter struct {
	given chan struct{} // closed when the place is there
}

func newSeats(n int) *seats { return &seats{free: n, queues: map[string][]*seatWaiter{}} }

// take waits for a place for a user's request until ctx ends. A StatusError
// says that there are too many who wait.
func (s *seats) take(ctx context.Context, user string) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	queue := s.queues[user]
	if len(queue) >= maxWaiting || s.waiting >= maxWaitingAll {
		s.mu.Unlock()
		return errTooMany()
	}
	w := &seatWaiter{given: make(chan struct{})}
	if len(queue) == 0 {
		s.turns = append(s.turns, user)
	}
	s.queues[user] = append(queue, w)
	s.waiting++
	s.mu.Unlock()
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	if s.forget(user, w) {
		return ctx.Err()
	}
	// It was given at the same moment.
	s.leave()
	return ctx.Err()
}

// leave gives a place back: to the first request of the user whose turn it is.
func (s *seats) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.turns) == 0 {
		s.free++
		return
	}
	user := s.turns[0]
	s.turns = s.turns[1:]
	queue := s.queues[user]
	first := queue[0]
	queue[0] = nil
	if s.queues[user] = queue[1:]; len(queue) > 1 {
		s.turns = append(s.turns, user)
	} else {
		delete(s.queues, user)
	}
	s.waiting--
	close(first.given)
}

// forget takes a request that no longer waits out of its queue. false: it has
// been given a place.
func (s *seats) forget(user string, w *seatWaiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.queues[user]
	for i, other := range queue {
		if other != w {
			continue
		}
		s.waiting--
		if len(queue) == 1 {
			delete(s.queues, user)
			for j, name := range s.turns {
				if name == user {
					s.turns = append(s.turns[:j:j], s.turns[j+1:]...)
					break
				}
			}
			return true
		}
		s.queues[user] = append(queue[:i:i], queue[i+1:]...)
		return true
	}
	return false
}

func errTooMany() error {
	return apierrors.NewTooManyRequests("The apiserver cannot complete this request right now: too many requests, please try again later", 1)
}
