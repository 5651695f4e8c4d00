package apiserver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// One who sends many requests does not keep others waiting behind all of them.
func TestSeatsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeats(1)
		if _, err := s.take(t.Context(), "first"); err != nil {
			t.Fatal(err)
		}
		served := make(chan string, 16)
		wait := func(user string) {
			go func() {
				if _, err := s.take(context.Background(), user); err == nil {
					served <- user
				}
			}()
			synctest.Wait()
		}
		for range 4 {
			wait("greedy")
		}
		wait("modest")
		var order []string
		for range 5 {
			s.leave(nil)
			synctest.Wait()
			order = append(order, <-served)
		}
		s.leave(nil)
		if order[0] != "greedy" || order[1] != "modest" {
			t.Errorf("served %v: want the modest user second", order)
		}
		if s.free != 1 || s.waiting != 0 || len(s.queues) != 0 || len(s.turns) != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
}

// Who gives up waiting leaves no trace, and too many are sent away.
func TestSeatsBoundTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeats(1)
		if _, err := s.take(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := make(chan error, maxWaiting)
		for range maxWaiting {
			go func() {
				_, err := s.take(ctx, "b")
				done <- err
			}()
		}
		synctest.Wait()
		if _, err := s.take(ctx, "b"); !apierrors.IsTooManyRequests(err) {
			t.Errorf("one more than may wait: %v", err)
		}
		for range maxWaiting {
			if err := <-done; err != context.DeadlineExceeded {
				t.Errorf("waited in vain: %v", err)
			}
		}
		if s.waiting != 0 || len(s.queues) != 0 || len(s.turns) != 0 {
			t.Errorf("left behind: %+v", s)
		}
		s.leave(nil)
		if _, err := s.take(t.Context(), "c"); err != nil {
			t.Errorf("a free place: %v", err)
		}
	})
}
