package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

func podKey(name string) api.Key { return api.Pods.Key("default", name) }

// inLoop runs f beside a loop of r, in fake time.
func inLoop(t *testing.T, r Func, opts LoopOptions, f func(*Loop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		l := NewLoop("test", r, opts)
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		f(l)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v", err)
		}
		synctest.Wait()
	})
}

func TestLoopRetriesErrorsAndPanics(t *testing.T) {
	var calls []time.Duration
	var start time.Time
	reg := prometheus.NewRegistry()
	r := func(context.Context, api.Key) (time.Duration, error) {
		calls = append(calls, time.Since(start))
		switch len(calls) {
		case 1:
			return 0, errors.New("first")
		case 2:
			panic("second")
		case 3:
			return time.Hour, nil
		}
		return 0, nil
	}
	inLoop(t, r, LoopOptions{Workers: 1, Metrics: NewMetrics(reg)}, func(l *Loop) {
		start = time.Now()
		l.Enqueue(podKey("a"))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
	})
	want := []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, time.Hour + 15*time.Millisecond}
	if fmt.Sprint(calls) != fmt.Sprint(want) {
		t.Errorf("called at %v, want %v", calls, want)
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if c := f.GetMetric()[0].GetCounter(); c != nil {
			got[f.GetName()] = c.GetValue()
		}
	}
	for name, want := range map[string]float64{
		"wherry_reconcile_errors_total": 2, "wherry_reconcile_panics_total": 1, "workqueue_retries_total": 3, // being asked to come again counts
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestLoopKeepsEarlyKeysAndCollapses(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	r := Func(func(_ context.Context, key api.Key) (time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		seen[key.Name]++
		return 0, nil
	})
	count := func(name string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[name]
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		l := NewLoop("test", r, LoopOptions{})
		l.Enqueue(podKey("a"))
		l.Enqueue(podKey("a"))
		l.EnqueueAfter(podKey("later"), time.Minute)
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		synctest.Wait()
		if count("a") != 1 || count("later") != 0 {
			t.Error("the key from before Run must be handled once, the delayed one not yet")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if count("later") != 1 {
			t.Error("the delayed key was not handled once")
		}
		if err := l.Run(ctx); err == nil {
			t.Error("a second Run must be refused")
		}
		cancel()
		<-done
		l.Enqueue(podKey("late"))
		synctest.Wait()
		if count("late") != 0 {
			t.Error("a key was worked on after Run")
		}
	})
}

// TestLoopOneWorkerPerKey adds keys from all sides: no key is lost and none is
// worked on twice at the same time.
func TestLoopOneWorkerPerKey(t *testing.T) {
	var mu sync.Mutex
	busy, version, handled := map[api.Key]bool{}, map[api.Key]int{}, map[api.Key]int{}
	r := func(_ context.Context, key api.Key) (time.Duration, error) {
		mu.Lock()
		if busy[key] {
			t.Errorf("%s is worked on twice", key)
		}
		busy[key] = true
		v := version[key]
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		busy[key], handled[key] = false, v
		mu.Unlock()
		return 0, nil
	}
	inLoop(t, r, LoopOptions{Workers: 8}, func(l *Loop) {
		var adders sync.WaitGroup
		for n := range 8 {
			adders.Go(func() {
				for i := range 200 {
					key := podKey(fmt.Sprint((i * n) % 17))
					mu.Lock()
					version[key]++
					mu.Unlock()
					l.Enqueue(key)
				}
			})
		}
		adders.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for key, v := range version {
			if handled[key] != v {
				t.Errorf("%s: the last change was lost", key)
			}
		}
	})
}

// TestLoopIsQuietAboutRaces: a race with another writer that the next attempt
// settles is nothing to tell, one that never ends is.
func TestLoopIsQuietAboutRaces(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, tt := range []struct {
		name     string
		err      error
		failures int
		warns    bool
	}{
		{"conflict", apierrors.NewConflict(pods, "a", errors.New("changed")), 2, false},
		{"exists, wrapped", fmt.Errorf("create: %w", apierrors.NewAlreadyExists(pods, "a")), 2, false},
		{"gone", apierrors.NewNotFound(pods, "a"), 2, false},
		{"too slow", context.DeadlineExceeded, 2, false},
		{"endless conflict", apierrors.NewConflict(pods, "a", errors.New("changed")), 12, true}, // with back-off they take 10 s,
		{"other", errors.New("no space left"), 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			calls := 0
			r := func(context.Context, api.Key) (time.Duration, error) {
				if calls++; calls <= tt.failures {
					return 0, tt.err
				}
				return 0, nil
			}
			inLoop(t, r, LoopOptions{Workers: 1, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))}, func(l *Loop) {
				l.Enqueue(podKey("a"))
				time.Sleep(time.Hour)
				synctest.Wait()
			})
			if calls != tt.failures+1 {
				t.Errorf("called %d times", calls)
			}
			if warned := log.Len() > 0; warned != tt.warns {
				t.Errorf("logged %q", log.String())
			}
		})
	}
}
