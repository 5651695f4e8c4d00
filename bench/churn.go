package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
)

// churnWorkers bounds the pods that are on their way at a time.
const churnWorkers = 256

// churn creates pods at a steady rate and deletes each when it is Ready; the
// time of each counts from the moment at which its creation was due.
func churn(ctx context.Context, env *Env, rec *Recorder) error {
	if err := env.pushAll(ctx); err != nil {
		return err
	}
	guest := env.Guests[0]
	up, down := rec.result("guest=%s/step=ready", guest.Name), rec.result("guest=%s/step=gone", guest.Name)
	up.Loop = "open"
	err := env.repeat(ctx, rec, up, func(ctx context.Context, i int) (result.Run, *result.Histogram, error) {
		ctx, cancel := context.WithTimeout(ctx, 3*env.Duration+patience)
		defer cancel()
		lives, err := newLives(ctx, env)
		if err != nil {
			return result.Run{}, nil, err
		}
		defer lives.end()
		run, err := openLoop(ctx, churnWorkers, env.Rate, env.Duration, func(ctx context.Context, _ int) error {
			return lives.one(ctx, guest)
		})
		if err == nil {
			err = run.check()
		}
		if err != nil {
			return result.Run{}, nil, err
		}
		metrics := append(result.Latencies(&lives.ready), result.Metric{Value: env.Rate, Unit: "offered/s"},
			result.Metric{Value: run.rate(), Unit: "pods/s"})
		if lost := run.failed + run.unserved; lost > 0 {
			metrics = append(metrics, result.Metric{Value: float64(lost), Unit: "failed"})
		}
		if i > 0 {
			down.Runs = append(down.Runs, result.Run{Count: lives.gone.Count(), Metrics: result.Latencies(&lives.gone)})
			if down.Latency == nil {
				down.Latency = new(result.Histogram)
			}
			down.Latency.Merge(&lives.gone)
		}
		return result.Run{Count: lives.ready.Count(), Metrics: metrics}, &lives.ready, nil
	})
	if err != nil {
		return err
	}
	rec.add(up)
	rec.add(down)
	return nil
}

// lives follows the benchmark's pods by one watch.
type lives struct {
	env    *Env
	events api.Watch
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	waiting map[string]*life
	broken  error
	ready   result.Histogram // from the due time to Ready
	gone    result.Histogram // from the deletion to its event
}

// life is one pod; its channels are closed when the thing was seen.
type life struct{ ready, gone chan struct{} }

func newLives(ctx context.Context, env *Env) (*lives, error) {
	events, err := env.Client.Watch(ctx, api.Pods.Key(env.Namespace, ""), api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"bench": "pod"})})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &lives{env: env, events: events, cancel: cancel, done: make(chan struct{}), waiting: map[string]*life{}}
	go l.follow(ctx)
	return l, nil
}

func (l *lives) end() {
	l.cancel()
	<-l.done
	l.events.Stop()
}

func (l *lives) follow(ctx context.Context) {
	defer close(l.done)
	for {
		event, err := l.events.Next(ctx)
		if err != nil {
			l.fail(err)
			return
		}
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		l.mu.Lock()
		one := l.waiting[pod.Name]
		if one != nil && isReady(pod) {
			closeOnce(one.ready)
		}
		if one != nil && event.Type == "DELETED" {
			closeOnce(one.ready)
			closeOnce(one.gone)
			delete(l.waiting, pod.Name)
		}
		l.mu.Unlock()
	}
}

// fail wakes everybody.
func (l *lives) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = fmt.Errorf("watch pods: %w", err)
	for _, one := range l.waiting {
		closeOnce(one.ready)
		closeOnce(one.gone)
	}
}

// closeOnce closes a channel that only its caller closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// one is a pod's life.
func (l *lives) one(ctx context.Context, guest Guest) error {
	pod := l.env.pod(uniqueName("churn"), guest.Image, guest.Port)
	life := &life{ready: make(chan struct{}), gone: make(chan struct{})}
	l.mu.Lock()
	l.waiting[pod.Name] = life
	l.mu.Unlock()
	begin := due(ctx)
	if _, err := l.env.Client.Create(ctx, api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	if err := l.wait(ctx, life.ready, &l.ready, begin); err != nil {
		return fmt.Errorf("wait for a pod to be Ready: %w", err)
	}
	begin = time.Now()
	if _, err := l.env.Client.Delete(ctx, api.Pods.KeyOf(pod), api.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete pod: %w", err)
	}
	if err := l.wait(ctx, life.gone, &l.gone, begin); err != nil {
		return fmt.Errorf("wait for a pod to be gone: %w", err)
	}
	return nil
}

func (l *lives) wait(ctx context.Context, seen chan struct{}, h *result.Histogram, begin time.Time) error {
	select {
	case <-seen:
	case <-ctx.Done():
		return ctx.Err()
	}
	took := time.Since(begin)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	h.Add(took)
	return nil
}
