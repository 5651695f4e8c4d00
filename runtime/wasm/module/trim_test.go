package module

import (
	"testing"
	"testing/synctest"
	"time"
)

// stillMemory is a gauge of a memory that is worth trimming, without an instance.
func stillMemory(t *testing.T, size uint64) *Gauge {
	t.Helper()
	g := NewGauge(0)
	m, err := newMemory(size, size, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Reallocate(size) == nil {
		t.Fatal("there is no memory")
	}
	t.Cleanup(m.Free)
	return g
}

// idle lets a guest wait for a time and returns when its memory was looked at.
func idle(trim *Trim, g *Gauge, limit time.Duration) (at []time.Duration) {
	waited := time.Duration(0)
	for again := trim.Idle(0); again < limit-waited; {
		<-time.After(again)
		waited += again
		before := g.Trims()
		if again = trim.Idle(waited); g.Trims() > before {
			at = append(at, waited)
		}
	}
	<-time.After(limit - waited)
	return at
}

func TestTrimIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared Trimmer
		first, second, small := stillMemory(t, 2*trimLeast), stillMemory(t, 2*trimLeast), stillMemory(t, PageSize)
		one, two := shared.NewTrim(first), shared.NewTrim(second)
		looked := make(chan []time.Duration)
		go func() { looked <- idle(one, first, time.Hour) }()
		go func() { looked <- idle(two, second, time.Hour) }()
		a, b := <-looked, <-looked
		if len(a) != 1 || len(b) != 1 || min(a[0], b[0]) != trimPatience || max(a[0], b[0]) != trimPatience+trimPause {
			t.Errorf("two guests that wait for an hour were trimmed after %v and %v", a, b)
		}
		if again := shared.NewTrim(small).Idle(0); again != never {
			t.Errorf("a small memory is to be looked at after %v", again)
		}
		var at []time.Duration
		began := time.Now()
		for range 10 { // a guest that has something to do every eight seconds
			since := time.Since(began)
			for _, waited := range idle(one, first, 8*time.Second) {
				at = append(at, since+waited)
			}
		}
		if len(at) != 3 || at[0] != trimPatience {
			t.Errorf("in 80 s it was trimmed after %v", at)
		}
		for i := range at[1:] {
			if at[i+1]-at[i] < trimRest {
				t.Errorf("it was trimmed after %v", at)
			}
		}
		if after := idle(one, first, trimPatience-1); after != nil {
			t.Errorf("a guest that waited for less than %v was trimmed after %v", trimPatience, after)
		}
	})
}
