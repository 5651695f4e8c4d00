package module

import (
	"container/heap"
	"runtime"
	"sync"
	"time"
)

const (
	// fullShare is the weight of a guest that asks for one core, and leastShare
	// that of one that asks for nothing: the cpu.shares that Kubernetes gives
	// to containers.
	fullShare  = 1024
	leastShare = 2
	// wakeCredit is how far behind the busy guests one that has slept may
	// begin: it runs before them, but cannot save up its sleep.
	wakeCredit = 5 * time.Millisecond
	// overdue is after what time a turn counts as given up: its guest sits in
	// a call of the host that takes long.
	overdue = 20 * time.Millisecond
)

// Processors gives turns to busy guests. At most a number of them run at once,
// one less than there are processors, so that one is always left for
// everything else: Go looks after timers and the network when a processor has
// nothing to do, and with all of them busy only every 10 ms.
//
// Turns go by weight, as in Linux' fair scheduler: each guest has a virtual
// time, which passes the slower the larger its weight, and the one that is
// farthest behind is next. A guest needs a turn at its yields only; what wakes
// up, does less than a quantum's work and sleeps again runs at once and waits
// for nobody. The zero value is not usable; a nil *Processors lets everybody run.
type Processors struct {
	slots int

	mu      sync.Mutex
	holders map[*turn]struct{}
	waiting turns
	floor   time.Duration // no virtual time of a busy guest is below it
	now     func() time.Time
}

// NewProcessors makes turns for one guest less than Go uses processors, but
// for one at least.
func NewProcessors() *Processors { return newProcessors(max(1, runtime.GOMAXPROCS(0)-1)) }

func newProcessors(slots int) *Processors {
	return &Processors{slots: slots, holders: map[*turn]struct{}{}, now: time.Now}
}

// turn is one guest's place among the busy ones. Its fields are guarded by
// Processors.mu, but for granted.
type turn struct {
	weight  int64
	virtual time.Duration
	since   time.Time // when it was given the turn that it holds
	at      int       // index in waiting; -1: not there
	granted chan struct{}
}

func newTurn(cpuMilli int64) *turn {
	return &turn{weight: share(cpuMilli), at: -1, granted: make(chan struct{}, 1)}
}

// share is the weight that Kubernetes gives to a CPU request.
func share(cpuMilli int64) int64 { return min(max(cpuMilli*fullShare/1000, leastShare), 1<<18) }

// next charges a guest for the time it ran and returns when it may go on, or
// when stop is closed. awake says that it slept since it last asked.
func (p *Processors) next(t *turn, ran time.Duration, awake bool, stop <-chan struct{}) {
	p.mu.Lock()
	if awake {
		t.virtual = max(t.virtual, p.floor-wakeCredit)
	}
	t.virtual += ran * fullShare / time.Duration(t.weight)
	now := p.now()
	_, holds := p.holders[t]
	if first := p.waiting.first(); first == nil || first.virtual >= t.virtual {
		if holds || len(p.holders) < p.slots {
			p.hold(t, now)
			p.mu.Unlock()
			return
		}
	}
	heap.Push(&p.waiting, t)
	delete(p.holders, t)
	p.hand(now)
	p.mu.Unlock()
	p.wait(t, stop)
}

// hold gives a guest the turn. The lock is held.
func (p *Processors) hold(t *turn, now time.Time) {
	t.since = now
	p.holders[t] = struct{}{}
	floor := t.virtual
	if first := p.waiting.first(); first != nil {
		floor = min(floor, first.virtual)
	}
	p.floor = max(p.floor, floor)
}

// hand gives free turns to those who wait for longest in virtual time. The
// lock is held.
func (p *Processors) hand(now time.Time) {
	for len(p.holders) < p.slots && len(p.waiting) > 0 {
		t := heap.Pop(&p.waiting).(*turn)
		p.hold(t, now)
		t.granted <- struct{}{} // its buffer is empty: it waits
	}
}

func (p *Processors) wait(t *turn, stop <-chan struct{}) {
	patience := time.NewTimer(overdue)
	defer patience.Stop()
	for {
		select {
		case <-t.granted:
			return
		case <-stop:
			p.leave(t)
			return
		case <-patience.C:
			p.reclaim()
			patience.Reset(overdue)
		}
	}
}

// reclaim takes turns from those who have not been back for long.
func (p *Processors) reclaim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for t := range p.holders {
		if now.Sub(t.since) >= overdue {
			delete(p.holders, t)
		}
	}
	p.hand(now)
}

// leave gives a guest's turn, or its place in the queue, back.
func (p *Processors) leave(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.at >= 0 {
		heap.Remove(&p.waiting, t.at)
	}
	select {
	case <-t.granted:
	default:
	}
	if _, holds := p.holders[t]; holds {
		delete(p.holders, t)
		p.hand(p.now())
	}
}

func (p *Processors) reweigh(t *turn, cpuMilli int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.weight = share(cpuMilli)
}

// turns is a heap by virtual time.
type turns []*turn

func (s turns) first() *turn {
	if len(s) == 0 {
		return nil
	}
	return s[0]
}

func (s turns) Len() int           { return len(s) }
func (s turns) Less(i, j int) bool { return s[i].virtual < s[j].virtual }
func (s turns) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

// Push implements heap.Interface.
func (s *turns) Push(x any) {
	t := x.(*turn)
	t.at = len(*s)
	*s = append(*s, t)
}

// Pop implements heap.Interface.
func (s *turns) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	t.at = -1
	return t
}
