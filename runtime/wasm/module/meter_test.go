package module

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

func TestBucket(t *testing.T) {
	const ms = time.Millisecond
	type step struct{ now, used, want time.Duration }
	for _, tc := range []struct {
		name  string
		rate  int64
		steps []step
	}{
		{"no limit", 0, []step{{0, time.Hour, 0}}},
		{"burst, then rest", 500, []step{
			{10 * ms, 10 * ms, 0},         // 50 - 10
			{50 * ms, 40 * ms, 0},         // 50 - 40: full again meanwhile
			{80 * ms, 30 * ms, 20 * ms},   // 10+15-30 = -5: rest for 5+5
			{100 * ms, 0, 0},              // +10 = 5
			{1000 * ms, 51 * ms, 12 * ms}, // never more than 50 saved
		}},
		{"small limit", 10, []step{{0, ms, 0}, {ms, ms, 109 * ms}}}, // burst 1 ms, then 0.99 ms of debt and 0.1 ms to come
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBucket(tc.rate)
			for i, s := range tc.steps {
				if got := b.take(s.now, s.used); got != s.want {
					t.Errorf("step %d: rest %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

// Over a long time a guest that never stops gets its share, not more.
func TestBucketShare(t *testing.T) {
	for _, rate := range []int64{1, 10, 250, 999} {
		b := newBucket(rate)
		var now, ran time.Duration
		for now < time.Minute {
			const slice = 100 * time.Microsecond
			now += slice
			ran += slice
			now += b.take(now, slice)
		}
		share := float64(ran) / float64(now) * 1000
		if share < float64(rate)*0.95 || share > float64(rate)*1.05+2 {
			t.Errorf("rate %d: share %.1f", rate, share)
		}
	}
}

func TestMeterAccounts(t *testing.T) {
	m := NewMeter(0)
	var now time.Duration
	m.now = func() time.Duration { return now }
	now = time.Second
	if got := m.yield(-5); got != smallPortion || m.Used() != 0 || m.Fuel() != 5 {
		t.Fatalf("first yield: fuel %d, used %v", m.Fuel(), m.Used())
	}
	for _, want := range []int64{2 * smallPortion, 4 * smallPortion, largePortion, largePortion} { // the last one ends a quantum
		now += quantum / 4
		if got := m.yield(0); got != want {
			t.Errorf("%d given, want %d", got, want)
		}
	}
	if m.Used() != quantum || m.Fuel() != 12*smallPortion+5 {
		t.Errorf("used %v, fuel %d", m.Used(), m.Fuel())
	}
	now += 3 * quantum
	m.Idle(5 * quantum / 2)
	m.yield(0)
	if m.Used() != quantum {
		t.Errorf("idle time is taken for the guest's: %v", m.Used())
	}
	now += quantum / 2
	m.yield(0)
	if m.Used() != 2*quantum {
		t.Errorf("used %v, want %v", m.Used(), 2*quantum)
	}
	before := m.Fuel()
	now += time.Hour // parked, and nobody said so
	m.yield(-quantum.Nanoseconds())
	if most := 2*quantum + time.Duration(m.Fuel()-before)*maxTimePerFuel(); m.Used() != most {
		t.Errorf("used %v, at most %v", m.Used(), most)
	}
	if got := m.yield(0); got != 2*smallPortion {
		t.Errorf("%d given after the first portion that was quick again", got)
	}
}

// The portions are cut so that a bound is met to the unit.
func TestMeterBound(t *testing.T) {
	for _, unit := range []int64{1, 7, 64, leastPortion - 1} {
		m, used := NewMeter(0), int64(0)
		m.Bound(123_456)
		m.now = func() time.Duration { return time.Duration(used*used%1009)*quantum + 1 } // portions of all sizes
		func() {
			defer func() { _ = recover() }()
			for fuel := int64(0); ; used += unit {
				for fuel -= unit; fuel < 0; {
					fuel = m.yield(fuel+unit) - unit
				}
			}
		}()
		if want := 123_456 / unit * unit; !m.Spent() || used != want {
			t.Errorf("charges of %d: ended after %d, want %d", unit, used, want)
		}
	}
}

func TestMeterKill(t *testing.T) {
	m := NewMeter(2000)
	if m.bucket.rate != 0 || m.Killed() {
		t.Fatal("a limit of two cores throttles one thread")
	}
	m.Kill()
	<-m.Done()
	defer func() {
		if exit, ok := recover().(*sys.ExitError); !ok || exit.ExitCode() != KilledExitCode {
			t.Errorf("yield of a killed guest panicked with %v", exit)
		}
	}()
	m.yield(-1)
	t.Error("yield returned to a killed guest")
}

// TestMeterOfUsedInstance: an instance comes to a new meter with fuel that
// another one has given, and is given no more than any other.
func TestMeterOfUsedInstance(t *testing.T) {
	m := NewMeter(0)
	for _, fuel := range []int64{5, 0, -3, 700} {
		if given := m.yield(fuel); given < leastPortion || given > largePortion {
			t.Errorf("with %d left it is given %d", fuel, given)
		}
	}
	if got := m.Fuel(); got < 0 || got > 3*largePortion {
		t.Errorf("%d were burned", got)
	}
	instance := instance(t, newHost(t, Config{}).load(t, kernels(1).bytes()), Limits{})
	call(t, instance, "fib", 10) // without a meter
	m = NewMeter(0)
	end := start(func() error {
		_, err := instance.ExportedFunction("spin").Call(WithMeter(context.Background(), m))
		return err
	})
	for m.Fuel() == 0 {
		runtime.Gosched()
	}
	m.Kill()
	wantKilled(t, m, <-end)
}
