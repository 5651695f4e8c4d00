package module

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// compete lets guests with the given CPU requests be busy until there were
// that many turns in all, and returns how many each one got and how many ran
// at once at most.
func compete(slots, total int, requests ...int64) (turns []int64, most int64) {
	p := newProcessors(slots)
	counts := make([]int64, len(requests))
	stop := make(chan struct{})
	var left, running, peak atomic.Int64
	left.Store(int64(total))
	now := time.Now()
	p.now = func() time.Time { return now } // nobody is overdue, however loaded the machine
	first := make([]*turn, slots)           // have the turns until everybody waits for one
	for i := range first {
		first[i] = newTurn(0)
		p.next(first[i], 0, false, nil)
	}
	var group sync.WaitGroup
	for i, request := range requests {
		group.Go(func() {
			t := newTurn(request)
			t.virtual = 1 // behind the first ones, so that it waits
			defer p.leave(t)
			for ran := time.Duration(0); ; ran = 100 * time.Microsecond {
				p.next(t, ran, false, stop)
				select {
				case <-stop:
					return
				default:
				}
				peak.Store(max(peak.Load(), running.Add(1)))
				counts[i]++
				if left.Add(-1) == 0 {
					close(stop)
				}
				running.Add(-1)
				runtime.Gosched() // as a yield does
			}
		})
	}
	for waiting := 0; waiting < len(requests); runtime.Gosched() {
		p.mu.Lock()
		waiting = len(p.waiting)
		p.mu.Unlock()
	}
	for _, t := range first {
		p.leave(t)
	}
	group.Wait()
	return counts, peak.Load()
}

func TestProcessorsShareByWeight(t *testing.T) {
	const total = 40_000
	for name, tt := range map[string]struct {
		slots    int
		requests []int64
		want     []float64 // shares of all turns
	}{
		"equal":        {1, []int64{0, 0, 0, 0}, []float64{.25, .25, .25, .25}},
		"one to five":  {1, []int64{100, 500}, []float64{1. / 6, 5. / 6}},
		"two at once":  {2, []int64{1000, 500, 500}, nil},
		"beside none":  {1, []int64{1000, 0}, []float64{1, 0}},
		"alone":        {1, []int64{0}, []float64{1}},
		"many cores":   {1, []int64{2000, 4000, 2000}, []float64{.25, .5, .25}},
		"enough slots": {2, []int64{100, 100}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			counts, most := compete(tt.slots, total, tt.requests...)
			if most > int64(tt.slots) {
				t.Errorf("%d guests ran at once, want at most %d", most, tt.slots)
			}
			if tt.slots > 1 {
				return // what a turn is worth is up to Go's processors then
			}
			for i, n := range counts {
				if got := float64(n) / total; got < tt.want[i]-.03 || got > tt.want[i]+.03 {
					t.Errorf("guest %d got %.3f of the turns, want %.3f (%v)", i, got, tt.want[i], counts)
				}
			}
		})
	}
}

func TestProcessorsPreferWhoWakesUp(t *testing.T) {
	p := newProcessors(1)
	now := time.Now()
	p.now = func() time.Time { return now } // nobody is overdue, however loaded the machine
	busy, other, sleeper := newTurn(0), newTurn(0), newTurn(0)
	p.next(busy, time.Second, false, nil)
	order := make(chan string, 3)
	var group sync.WaitGroup
	queue := func(name string, tt *turn, awake bool) {
		group.Go(func() {
			p.next(tt, 0, awake, nil)
			order <- name
			p.leave(tt)
		})
		for queued := false; !queued; {
			p.mu.Lock()
			queued = tt.at >= 0
			p.mu.Unlock()
			runtime.Gosched()
		}
	}
	other.virtual = busy.virtual
	queue("other", other, false)
	queue("sleeper", sleeper, true)
	if lag := p.floor - sleeper.virtual; lag != wakeCredit {
		t.Errorf("a guest that slept for ever is %v behind, want %v", lag, wakeCredit)
	}
	p.leave(busy)
	group.Wait()
	if first, second := <-order, <-order; first != "sleeper" || second != "other" {
		t.Errorf("order is %s, %s", first, second)
	}
	if len(p.holders) != 0 || len(p.waiting) != 0 {
		t.Error("turns are left over")
	}
}

func TestProcessorsWaitForNobodyForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcessors(1)
		stuck, next := newTurn(0), newTurn(0)
		p.next(stuck, 0, false, nil) // and is in a long call of the host
		next.virtual = time.Hour
		began := time.Now()
		p.next(next, 0, false, nil)
		if waited := time.Since(began); waited != overdue {
			t.Errorf("waited %v, want %v", waited, overdue)
		}
		stop := make(chan struct{})
		killed := newTurn(0)
		time.AfterFunc(time.Millisecond, func() { close(stop) })
		began = time.Now()
		killed.virtual = 2 * time.Hour
		p.next(killed, 0, false, stop)
		if waited := time.Since(began); waited != time.Millisecond || len(p.waiting) != 0 {
			t.Errorf("a killed guest waited %v; %d wait on", waited, len(p.waiting))
		}
	})
}

func TestMeterResize(t *testing.T) {
	m := NewMeter(100)
	m.Share(newProcessors(1), 100)
	m.Resize(500, 500)
	if m.bucket.rate != 500 || m.turn.weight != 512 {
		t.Errorf("rate %d, weight %d", m.bucket.rate, m.turn.weight)
	}
	m.Resize(0, 0)
	if m.bucket.rate != 0 || m.turn.weight != leastShare {
		t.Errorf("rate %d, weight %d", m.bucket.rate, m.turn.weight)
	}
}

func TestGauge(t *testing.T) {
	g := NewGauge(10 * PageSize)
	fits := func(uint64) bool { return true }
	if !g.grow(10*PageSize, fits) || g.grow(11*PageSize, fits) || g.Size() != 10*PageSize {
		t.Fatalf("size %d", g.Size())
	}
	if err := g.SetLimit(9 * PageSize); err == nil {
		t.Error("a limit below the size was taken")
	}
	if err := g.SetLimit(12*PageSize + 1); err != nil || !g.grow(12*PageSize, fits) || g.grow(13*PageSize, fits) {
		t.Errorf("the new limit does not count: %v, size %d", err, g.Size())
	}
	if err := g.SetLimit(0); err != nil || !g.grow(100*PageSize, fits) {
		t.Errorf("no limit is one: %v", err)
	}
}
