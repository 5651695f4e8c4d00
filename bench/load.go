package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"wherry.dev/wherry/bench/result"
)

// operation is one request of a load. Each worker is one goroutine and may
// keep a connection.
type operation func(ctx context.Context, worker int) error

// loadRun is what came of a load.
type loadRun struct {
	latency  *result.Histogram
	failed   int64         // operations that ended with an error; they are not in latency
	firstErr error         // of those
	took     time.Duration // from the first operation's begin to the last one's end
	late     time.Duration // open loop: median delay of the generator's own wake-ups
	unserved int64         // open loop: operations that were due and never begun
}

// rate is operations a second that succeeded.
func (l *loadRun) rate() float64 {
	if l.took <= 0 {
		return 0
	}
	return float64(l.latency.Count()) / l.took.Seconds()
}

// maxFailed is the share of failed operations above which a load says nothing.
const maxFailed = 0.01

// check makes an error of a load that mostly failed.
func (l *loadRun) check() error {
	if all := l.latency.Count() + l.failed; all == 0 {
		return fmt.Errorf("no operation was done in time; take a longer --duration")
	} else if float64(l.failed) > maxFailed*float64(all) {
		return fmt.Errorf("%d of %d operations failed, for example: %w", l.failed, all, l.firstErr)
	}
	return nil
}

// closedLoop has each of n workers do one operation after another for d: how
// much can be done. Its latencies are those of a system that is as busy as can
// be, and leave out whoever would have come meanwhile.
func closedLoop(ctx context.Context, n int, d time.Duration, op operation) (*loadRun, error) {
	var total collected
	begin := time.Now()
	end := begin.Add(d)
	var work sync.WaitGroup
	for worker := range n {
		work.Go(func() {
			var mine loadRun
			mine.latency = new(result.Histogram)
			for now := begin; now.Before(end) && ctx.Err() == nil; {
				err := op(ctx, worker)
				done := time.Now()
				mine.count(done.Sub(now), err)
				now = done
			}
			total.add(&mine)
		})
	}
	work.Wait()
	return total.sum(time.Since(begin)), ctx.Err()
}

// openLoop begins operations at a fixed rate for d, whatever became of those
// before, with at most n at a time. An operation's latency counts from the
// moment at which it was due: one that has to wait for a free worker has waited
// as its user would have (no coordinated omission).
func openLoop(ctx context.Context, n int, rate float64, d time.Duration, op operation) (*loadRun, error) {
	due := int64(rate * d.Seconds())
	var next atomic.Int64
	var total collected
	begin := time.Now()
	giveUp := begin.Add(3 * d) // a system that has fallen so far behind is not followed to the end
	var work sync.WaitGroup
	for worker := range n {
		work.Go(func() {
			mine, late := loadRun{latency: new(result.Histogram)}, new(result.Histogram)
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= due {
					break
				}
				intended := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if wait := time.Until(intended); wait > 0 {
					sleep(ctx, wait)
					late.Add(time.Since(intended))
				} else if time.Now().After(giveUp) {
					mine.unserved++
					continue
				}
				err := op(context.WithValue(ctx, dueKey{}, intended), worker)
				mine.count(time.Since(intended), err)
			}
			total.addLate(&mine, late)
		})
	}
	work.Wait()
	return total.sum(time.Since(begin)), ctx.Err()
}

// dueKey is where the context of an operation has the time at which it was due.
type dueKey struct{}

// due is when an operation of an open loop should have begun, for operations
// that take their own time; now outside of one.
func due(ctx context.Context) time.Time {
	if at, ok := ctx.Value(dueKey{}).(time.Time); ok {
		return at
	}
	return time.Now()
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *loadRun) count(latency time.Duration, err error) {
	if err == nil {
		l.latency.Add(latency)
		return
	}
	l.failed++
	if l.firstErr == nil {
		l.firstErr = err
	}
}

// collected joins what workers have counted.
type collected struct {
	mu   sync.Mutex
	all  loadRun
	late result.Histogram
}

func (c *collected) add(one *loadRun) { c.addLate(one, nil) }

func (c *collected) addLate(one *loadRun, late *result.Histogram) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all.latency == nil {
		c.all.latency = new(result.Histogram)
	}
	c.all.latency.Merge(one.latency)
	c.all.failed += one.failed
	c.all.unserved += one.unserved
	if c.all.firstErr == nil {
		c.all.firstErr = one.firstErr
	}
	c.late.Merge(late)
}

func (c *collected) sum(took time.Duration) *loadRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.took, c.all.late = took, c.late.Percentile(50)
	return &c.all
}

// metrics are the figures of a load. A rate comes first where that is what the
// load asks for.
func (l *loadRun) metrics() []result.Metric {
	metrics := append(result.Latencies(l.latency), result.Metric{Value: l.rate(), Unit: "ops/s"})
	if l.failed > 0 {
		metrics = append(metrics, result.Metric{Value: float64(l.failed), Unit: "failed"})
	}
	return metrics
}

// loads measures one operation: by a closed loop for each number of workers,
// then by an open loop with the last of them at the share --load of what the closed
// one has reached. prepare makes the operation for so many workers, and what
// frees it.
func (e *Env) loads(ctx context.Context, rec *Recorder, name, workers string, counts []int, prepare func(ctx context.Context, n int) (operation, func(), error)) error {
	var reached float64
	for _, n := range counts {
		one := rec.result("%s/%s=%d/loop=closed", name, workers, n)
		one.Loop = "closed"
		rates, err := e.load(ctx, rec, one, n, prepare, func(ctx context.Context, op operation) (*loadRun, error) {
			return closedLoop(ctx, n, e.Duration, op)
		})
		if err != nil {
			return err
		}
		reached = max(reached, result.Median(rates))
		rec.add(one)
	}
	n := counts[len(counts)-1]
	one := rec.result("%s/%s=%d/loop=open", name, workers, n)
	one.Loop = "open"
	offered := max(reached*e.Load, 1/e.Duration.Seconds())
	_, err := e.load(ctx, rec, one, n, prepare, func(ctx context.Context, op operation) (*loadRun, error) {
		return openLoop(ctx, n, offered, e.Duration, op)
	})
	if err != nil {
		return err
	}
	for i := range one.Runs {
		one.Runs[i].Metrics = append(one.Runs[i].Metrics, result.Metric{Value: offered, Unit: "offered/s"})
	}
	rec.add(one)
	return nil
}

// load repeats one loop and returns the rates that it reached.
func (e *Env) load(ctx context.Context, rec *Recorder, one *result.Result, n int, prepare func(context.Context, int) (operation, func(), error),
	loop func(context.Context, operation) (*loadRun, error)) (rates []float64, err error) {
	op, free, err := prepare(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", one.Name, err)
	}
	defer free()
	err = e.repeat(ctx, rec, one, func(ctx context.Context, _ int) (result.Run, *result.Histogram, error) {
		run, err := loop(ctx, op)
		if err == nil {
			err = run.check()
		}
		if err != nil {
			return result.Run{}, nil, err
		}
		rates = append(rates, run.rate())
		metrics := run.metrics()
		if one.Loop == "open" {
			metrics = append(metrics, result.Metric{Value: float64(run.late) / float64(time.Microsecond), Unit: "late-us"})
			if run.unserved > 0 {
				metrics = append(metrics, result.Metric{Value: float64(run.unserved), Unit: "unserved"})
			}
		}
		return result.Run{Count: run.latency.Count(), Metrics: metrics}, run.latency, nil
	})
	return rates, err
}
