package module

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// KilledExitCode is the exit code with which a killed guest unwinds: 128 + SIGKILL.
const KilledExitCode = 137

const (
	// quantum is the processor time after which a guest is charged, and others get
	// their turn. That costs some ten times what a portion does.
	quantum = 100 * time.Microsecond
	// breath is the same for letting Go choose what to run next, where it uses more
	// than one processor: that wakes an idle one, which may take the guest over, and
	// can cost microseconds. With one processor it costs nothing, and is done after
	// each quantum.
	breath = 5 * quantum
	// largePortion and smallPortion bound the fuel that a guest gets at once. A
	// garbage collection waits a few times for each running guest, until it has
	// burned its portion. That is 10 to 30 µs of compiled code, but takes up to a
	// thousand times as long where every few instructions touch a page for the
	// first time: whose portion has taken longer than longPortion gets a small one
	// next.
	largePortion = 100_000
	smallPortion = largePortion / 5
	longPortion  = time.Millisecond
	// leastPortion is more than any charge: with less, a loop could never go on.
	leastPortion = mostSplit*maxCopies + 1
	// throttlePeriod is how long a guest over its CPU limit rests, at least, so
	// that a small limit does not mean thousands of wake-ups a second.
	throttlePeriod = 10 * time.Millisecond
	// burstPeriod is the time for which an idle guest saves up its share, as
	// the period of a Linux CFS quota.
	burstPeriod = 100 * time.Millisecond
)

// Meter is how one guest is preempted, throttled and killed. The guest's calls
// carry it in their context (WithMeter). Its methods are safe for concurrent
// use.
type Meter struct {
	now     func() time.Duration
	done    chan struct{}
	killed  atomic.Bool
	used    atomic.Int64 // nanoseconds
	fuel    atomic.Int64
	idle    atomic.Int64  // nanoseconds parked since the last yield
	left    int64         // of fuel, until the guest is ended
	given   int64         // what was given at the last yield
	givenAt time.Duration // and when
	burned  int64         // since it was last charged
	breath  time.Duration // as the constant, on this machine
	paused  time.Duration // when Go could last choose
	spent   atomic.Bool
	stack   callStack // of the guest's goroutine

	cpus *Processors // nil: every guest runs at once
	turn *turn

	mu     sync.Mutex
	last   time.Duration // when the guest last left yield; 0: never
	bucket bucket
}

// NewMeter makes a meter for a guest that may use cpuMilli thousandths of a
// core; 0 means no limit. A guest is one thread: 1000 and more never throttle.
func NewMeter(cpuMilli int64) *Meter {
	epoch := time.Now()
	m := &Meter{
		done: make(chan struct{}), bucket: newBucket(cpuMilli), left: math.MaxInt64,
		// One nanosecond ahead, so that 0 stays free for "never".
		now: func() time.Duration { return time.Since(epoch) + 1 },
	}
	if runtime.GOMAXPROCS(0) > 1 {
		m.breath = breath
	}
	return m
}

// Share makes the guest take turns with the other busy ones, with the weight
// of a request of cpuMilli thousandths of a core. It comes before the first
// call of the guest.
func (m *Meter) Share(cpus *Processors, cpuMilli int64) { m.cpus, m.turn = cpus, newTurn(cpuMilli) }

// Resize changes the guest's limit and weight from its next yield on.
func (m *Meter) Resize(limitMilli, requestMilli int64) {
	m.mu.Lock()
	if fresh := newBucket(limitMilli); fresh.rate != m.bucket.rate {
		fresh.filled = m.now()
		m.bucket = fresh
	}
	m.mu.Unlock()
	if m.cpus != nil {
		m.cpus.reweigh(m.turn, requestMilli)
	}
}

// Leave gives up the guest's turn: it is about to wait for something, or has
// ended.
func (m *Meter) Leave() {
	if m.cpus != nil {
		m.cpus.leave(m.turn)
	}
}

// Kill ends the guest: its next yield unwinds it with a *sys.ExitError of
// KilledExitCode, and a guest that rests for its CPU limit wakes at once. A
// host function that parks must watch Done.
func (m *Meter) Kill() {
	if !m.killed.Swap(true) {
		close(m.done)
	}
}

// Bound ends the guest, as Kill does, at the first charge that comes to more than
// so much fuel in all: at the same place in each run that does the same. 0 is no
// bound. It comes before the first call of the guest.
func (m *Meter) Bound(fuel int64) {
	if fuel > 0 {
		m.left = fuel
	}
}

// Spent says whether the guest was ended because it had used all of its fuel.
func (m *Meter) Spent() bool { return m.spent.Load() }

// Killed says whether Kill was called; it tells a killed guest from one that
// exited with the same code.
func (m *Meter) Killed() bool { return m.killed.Load() }

// Done is closed when Kill is called.
func (m *Meter) Done() <-chan struct{} { return m.done }

// Used is the processor time that the guest has used, but for its last quantum. It
// is wall time on a processor without what Idle reports, bounded by the fuel burned.
func (m *Meter) Used() time.Duration { return time.Duration(m.used.Load()) }

// Fuel is the work done up to the last yield, in units of about one
// WebAssembly instruction.
func (m *Meter) Fuel() int64 { return m.fuel.Load() }

// Idle tells the meter that the guest was parked in a host function for d,
// which is then not counted as processor time.
func (m *Meter) Idle(d time.Duration) { m.idle.Add(int64(d)) }

// maxTimePerFuel bounds the time that a unit of fuel can have taken, so that
// parking that nobody reported is not taken for work.
func maxTimePerFuel() time.Duration {
	switch runtime.GOARCH {
	case "amd64", "arm64":
		return 10 * time.Nanosecond
	}
	return 500 * time.Nanosecond // the interpreter
}

// yield is called by the guest with its fuel when it does not suffice, and
// returns how much it has from now on. That it is called at all lets the
// collector come to its turn: Go's functions look at their beginning whether
// they shall stop.
func (m *Meter) yield(fuel int64) int64 {
	m.exitIfKilled()
	now, portion := m.now(), int64(smallPortion)
	if now-m.givenAt < longPortion {
		portion = min(2*m.given, largePortion)
	}
	burned := max(0, m.given-fuel) // what is left of another meter's was paid to that
	spent := m.given == m.left || burned > m.left
	m.burned, m.left = m.burned+burned, m.left-burned
	m.fuel.Add(burned)
	if spent || m.last == 0 || now-m.last-time.Duration(m.idle.Load()) >= quantum {
		now = m.settle()
	}
	if spent {
		m.spent.Store(true)
		m.Kill()
		m.exitIfKilled()
	}
	m.given, m.givenAt = min(max(leastPortion, portion), m.left), now
	return m.given
}

// settle charges what was burned, lets others run and returns the time then.
func (m *Meter) settle() time.Duration {
	m.stack.check()
	slept := m.idle.Load() > 0
	ran, rest := m.account(m.burned)
	m.burned = 0
	switch now := m.now(); {
	case rest > 0:
		m.Leave()
		m.rest(rest)
		slept = true
	case now-m.paused >= m.breath:
		m.paused = now
		runtime.Gosched()
	}
	if m.cpus != nil {
		m.cpus.next(m.turn, ran, slept, m.done)
	}
	m.exitIfKilled()
	now := m.now()
	m.mu.Lock()
	m.last = now
	m.mu.Unlock()
	m.idle.Store(0)
	return now
}

func (m *Meter) exitIfKilled() {
	if m.killed.Load() {
		panic(sys.NewExitError(KilledExitCode))
	}
}

// account charges the time that the fuel burned since it was last called took,
// and says how long to rest.
func (m *Meter) account(burned int64) (slice, rest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if m.last > 0 {
		slice = now - m.last - time.Duration(m.idle.Swap(0))
		slice = max(0, min(slice, time.Duration(burned)*maxTimePerFuel()))
	}
	m.used.Add(int64(slice))
	return slice, m.bucket.take(now, slice)
}

func (m *Meter) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.done:
	}
}

// bucket is a token bucket of processor time.
type bucket struct {
	rate   int64         // thousandths; 0: no limit
	burst  time.Duration // most that can be saved up
	tokens time.Duration
	filled time.Duration // when tokens were last added
}

// newBucket makes a bucket. A guest is one thread, which a limit of a whole
// core and more does not bind.
func newBucket(rate int64) bucket {
	if rate >= 1000 || rate < 0 {
		rate = 0
	}
	burst := burstPeriod * time.Duration(rate) / 1000
	return bucket{rate: rate, burst: burst, tokens: burst}
}

// take charges used at time now and returns how long its owner must rest: 0
// while there are tokens, else until a throttlePeriod's worth is there.
func (b *bucket) take(now, used time.Duration) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.tokens = min(b.burst, b.tokens+(now-b.filled)*time.Duration(b.rate)/1000) - used
	b.filled = now
	if b.tokens >= 0 {
		return 0
	}
	share := throttlePeriod * time.Duration(b.rate) / 1000
	return (share - b.tokens) * 1000 / time.Duration(b.rate)
}

type meterKey struct{}

// WithMeter returns a context for calls into a guest that m meters. Every call
// of a guest's function needs it: without, the guest is preempted but neither
// throttled nor killed.
func WithMeter(ctx context.Context, m *Meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// InstantiateHost gives a runtime the module that rewritten modules import;
// once per runtime, before the first instance.
func InstantiateHost(ctx context.Context, rt wazero.Runtime) error {
	yield := api.GoFunc(func(ctx context.Context, stack []uint64) {
		if m, ok := ctx.Value(meterKey{}).(*Meter); ok && m != nil {
			stack[0] = api.EncodeI64(m.yield(int64(stack[0])))
			return
		}
		runtime.Gosched()
		stack[0] = smallPortion
	})
	i64 := []api.ValueType{api.ValueTypeI64}
	_, err := rt.NewHostModuleBuilder(hostModule).NewFunctionBuilder().
		WithGoFunction(yield, i64, i64).Export(yieldName).Instantiate(ctx)
	if err != nil {
		return fmt.Errorf("instantiate the host module %q: %w", hostModule, err)
	}
	return nil
}
