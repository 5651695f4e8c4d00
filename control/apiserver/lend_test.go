package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// lending are two levels of which the first lends one of its two places, and the
// second has one of its own and takes as many as it gets.
func lending(limit int) (lender, borrower *seats) {
	lender, borrower = newSeats(0), newSeats(0)
	lender.resize(room{places: 2, lendable: 1, each: 9, together: 9})
	borrower.resize(room{places: 1, borrows: limit, lenders: []*seats{lender}, each: 9, together: 9})
	return lender, borrower
}

// queue takes a place in the background and says so when it has it.
func (s *seats) queue(name string, got chan string, places map[string]*seats) {
	go func() {
		lender, err := s.take(context.Background(), name)
		if err != nil {
			name = err.Error()
		}
		places[name] = lender
		got <- name
	}()
	synctest.Wait()
}

// A lent place goes back to who waits in its own level, and else to the next who
// waits where it was lent to.
func TestSeatsAreLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lender, borrower := lending(-1)
		got, places := make(chan string, 9), map[string]*seats{}
		served := func(want string) {
			t.Helper()
			synctest.Wait()
			select {
			case name := <-got:
				if name != want {
					t.Fatalf("%s has a place, want %q", name, want)
				}
			default:
				if want != "" {
					t.Fatalf("nobody has a place, want %s", want)
				}
			}
		}
		borrower.queue("own", got, places)
		served("own")
		borrower.queue("borrowed", got, places)
		served("borrowed")
		if places["own"] != nil || places["borrowed"] != lender {
			t.Fatalf("places %v", places)
		}
		borrower.queue("waits", got, places)
		served("") // only one is lent
		lender.queue("home", got, places)
		served("home")
		lender.queue("comes back", got, places)
		served("")
		borrower.leave(places["borrowed"])
		served("comes back")
		served("")
		borrower.leave(nil)
		served("waits")
		lender.leave(nil)
		borrower.queue("again", got, places)
		served("again")
		borrower.queue("next", got, places)
		served("")
		borrower.leave(places["again"]) // nobody waits at its home
		served("next")
		lender.leave(nil)
		borrower.leave(places["next"])
		borrower.leave(places["waits"])
		if lender.free != 2 || lender.lent != 0 || borrower.free != 1 || borrower.borrowed != 0 {
			t.Errorf("left behind: %+v, %+v", lender, borrower)
		}
	})
}

// The limit of who borrows counts, and so does a new limit of who lends.
func TestSeatsAreLentWithinLimits(t *testing.T) {
	ctx := t.Context()
	_, borrower := lending(0)
	borrower.each = 0
	if _, err := borrower.take(ctx, "own"); err != nil {
		t.Fatal(err)
	}
	if lender, err := borrower.take(ctx, "borrowed"); !apierrors.IsTooManyRequests(err) {
		t.Errorf("borrowed %v, %v beyond the limit", lender, err)
	}
	lender, borrower := lending(-1)
	borrower.each = 0
	for _, name := range []string{"own", "borrowed"} {
		if _, err := borrower.take(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	lender.resize(room{places: 1}) // it lends nothing any more, and has a place less
	if _, err := lender.take(ctx, "home"); !apierrors.IsTooManyRequests(err) {
		t.Errorf("a place that is lent was given: %v", err)
	}
	borrower.leave(lender)
	if _, err := lender.take(ctx, "home"); err != nil {
		t.Errorf("a place that came back: %v", err)
	}
}

// Many who come and go leave as many places behind as there were.
func TestSeatsAddUp(t *testing.T) {
	a, b := newSeats(0), newSeats(0)
	a.resize(room{places: 3, lendable: 2, borrows: -1, lenders: []*seats{b}, each: 100, together: 100})
	b.resize(room{places: 2, lendable: 1, borrows: 1, lenders: []*seats{a}, each: 100, together: 100})
	var all sync.WaitGroup
	for i := range 40 {
		s := []*seats{a, b}[i%2]
		all.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.N(200))*time.Microsecond)
				if lender, err := s.take(ctx, string(rune('a'+i))); err == nil {
					s.leave(lender)
				}
				cancel()
			}
		})
	}
	all.Wait()
	for _, s := range []*seats{a, b} {
		if s.free != s.places || s.lent != 0 || s.borrowed != 0 || s.waiting != 0 || len(s.turns) != 0 || len(s.queues) != 0 {
			t.Errorf("left behind: %+v", s)
		}
	}
}

// What cannot be read is told once, when it lasts, and when it is over.
func TestLevelsSayThatTheyCannotBeRead(t *testing.T) {
	var text strings.Builder
	l := newLevels(nil, 1, 1, slog.New(slog.NewTextHandler(&text, nil)))
	said := func(want int) {
		t.Helper()
		if got := strings.Count(text.String(), "level=WARN") + strings.Count(text.String(), "level=INFO"); got != want {
			t.Fatalf("%d lines, want %d:\n%s", got, want, text.String())
		}
	}
	broken := errors.New("broken")
	l.note(broken)
	l.note(nil)
	said(0)
	for range 3 {
		l.note(broken)
	}
	said(1)
	l.note(nil)
	l.note(nil)
	said(2)
}
