package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"

	"wherry.dev/wherry/control/api"
)

// Reconciler brings the world in line for one key.
type Reconciler interface {
	// Reconcile is called by at most one worker at a time for the same key.
	// again > 0 asks to be called again after that time. An error is retried
	// with back-off, and again is ignored then.
	Reconcile(ctx context.Context, key api.Key) (again time.Duration, err error)
}

// Func makes a Reconciler of a function.
type Func func(ctx context.Context, key api.Key) (time.Duration, error)

// Reconcile calls f.
func (f Func) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) { return f(ctx, key) }

// LoopOptions tune a Loop. The zero value is good.
type LoopOptions struct {
	Workers   int           // reconciles at the same time, 0: 4
	Log       *slog.Logger  // nil: no logs
	BaseDelay time.Duration // wait after a key's first failure, doubled with each further one; 0: 5 ms
	MaxDelay  time.Duration // longest wait between retries; 0: 1000 s
	Metrics   *Metrics      // nil: none
}

// Loop is a queue and the workers that serve it for one Reconciler. A key is
// in the queue at most once; one that is added while it is being worked on
// comes again afterwards.
type Loop struct {
	name       string
	reconciler Reconciler
	opts       LoopOptions
	log        *slog.Logger

	mu      sync.Mutex
	early   []earlyKey // what came before Run
	queue   workqueue.TypedRateLimitingInterface[api.Key]
	stopped bool
	races   map[api.Key]time.Time // since when a key's attempts have met other writers
}

// earlyKey waits for Run, since the queue has a goroutine that Run owns.
type earlyKey struct {
	key api.Key
	due time.Time
}

// NewLoop makes the loop that calls r; name appears in logs and metrics.
// Nothing happens before Run.
func NewLoop(name string, r Reconciler, opts LoopOptions) *Loop {
	if opts.Workers <= 0 {
		opts.Workers = 4
	}
	if opts.BaseDelay <= 0 {
		opts.BaseDelay = 5 * time.Millisecond
	}
	if opts.MaxDelay <= 0 {
		opts.MaxDelay = 1000 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Loop{name: name, reconciler: r, opts: opts, log: opts.Log.With("loop", name)}
}

// Name returns the name the loop was made with.
func (l *Loop) Name() string { return l.name }

// Enqueue asks for a reconcile of key as soon as a worker is free. It never
// blocks. Before Run the key is remembered, after Run it is dropped.
func (l *Loop) Enqueue(key api.Key) { l.EnqueueAfter(key, 0) }

// EnqueueAfter asks for a reconcile of key once d has passed. Of several
// requests for a key the earliest counts.
func (l *Loop) EnqueueAfter(key api.Key, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopped:
	case l.queue == nil:
		l.early = append(l.early, earlyKey{key, time.Now().Add(d)})
	case d <= 0:
		l.queue.Add(key)
	default:
		l.queue.AddAfter(key, d)
	}
}

// Run serves the queue until ctx ends and all workers are done. It can be
// called once.
func (l *Loop) Run(ctx context.Context) error {
	queue, err := l.open()
	if err != nil {
		return err
	}
	var workers sync.WaitGroup
	for range l.opts.Workers {
		workers.Go(func() {
			for l.next(ctx, queue) {
			}
		})
	}
	<-ctx.Done()
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	queue.ShutDown()
	workers.Wait()
	return nil
}

// open makes the queue and fills in what came before.
func (l *Loop) open() (workqueue.TypedRateLimitingInterface[api.Key], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue != nil {
		return nil, fmt.Errorf("loop %s: Run was called twice; make a new loop instead", l.name)
	}
	// The limiter is per key only: a shared bucket would make a burst of
	// healthy work wait behind a timer.
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[api.Key](l.opts.BaseDelay, l.opts.MaxDelay)
	config := workqueue.TypedRateLimitingQueueConfig[api.Key]{Name: l.name}
	if l.opts.Metrics != nil {
		config.MetricsProvider = l.opts.Metrics
	}
	l.queue = workqueue.NewTypedRateLimitingQueueWithConfig(limiter, config)
	now := time.Now()
	for _, e := range l.early {
		if d := e.due.Sub(now); d > 0 {
			l.queue.AddAfter(e.key, d)
		} else {
			l.queue.Add(e.key)
		}
	}
	l.early = nil
	return l.queue, nil
}

// next works on one key and reports false when the queue has shut down.
func (l *Loop) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[api.Key]) bool {
	key, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(key)
	if ctx.Err() != nil {
		return true // drain what is left without working on it
	}
	again, err := l.call(ctx, key)
	switch {
	case err == nil:
		queue.Forget(key)
		l.settled(key)
		if again > 0 {
			queue.AddAfter(key, again)
		}
	case ctx.Err() != nil:
	default:
		l.report(key, queue.NumRequeues(key)+1, err)
		queue.AddRateLimited(key)
	}
	return true
}

// call runs the reconciler and turns a panic into an error, so that one bad
// object cannot end the process.
func (l *Loop) call(ctx context.Context, key api.Key) (again time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			l.opts.Metrics.panicked(l.name)
			l.log.Error("reconciler panicked", "key", key.String(), "panic", r, "stack", string(debug.Stack()))
			again, err = 0, fmt.Errorf("reconcile %s: panic: %v", key, r)
		}
	}()
	return l.reconciler.Reconcile(ctx, key)
}

// A key may meet other writers so many times and for so long before that is
// worth a warning. Time alone does not tell a slow machine from a quarrel, and
// neither does the number alone: changes wake a key without any back-off.
const (
	racesEnd  = 8
	racesLast = 10 * time.Second
)

// report counts and logs a failure. That writers meet (one has changed, made
// or removed first what another one was about to write) is how they work
// beside each other, and the next attempt knows better; only one that goes on
// is news.
func (l *Loop) report(key api.Key, attempt int, err error) {
	l.opts.Metrics.failed(l.name)
	level := slog.LevelWarn
	if errors.Is(err, context.DeadlineExceeded) || raced(err) && (l.racing(key) < racesLast || attempt <= racesEnd) {
		level = slog.LevelDebug
	} else if apierrors.IsForbidden(err) {
		// A quota or a policy of the user's has said no. The object's events tell
		// those whom it concerns.
		level = slog.LevelInfo
	}
	l.log.Log(context.Background(), level, "reconcile failed, will retry",
		"key", key.String(), "attempt", attempt, "error", err)
}

// racing is for how long the key has met other writers.
func (l *Loop) racing(key api.Key) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, ok := l.races[key]
	if !ok {
		if l.races == nil {
			l.races = map[api.Key]time.Time{}
		}
		since = time.Now()
		l.races[key] = since
	}
	return time.Since(since)
}

// settled ends the key's race, if there was one.
func (l *Loop) settled(key api.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.races, key)
}

// raced reports whether an error is the outcome of a race with another writer.
func raced(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}
