package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// flights are the pulls under way: one per name and
// credentials, shared by all who wait for
// it. A caller that gives up does not take the others' pull with it; the last
// one does, and waits for its end, so that no pull outlives its callers.
type flights[T any] struct {
	mu    sync.Mutex
	byRef map[string]*flight[T]
}

type flight[T any] struct {
	cancel  context.CancelFunc
	waiters int // guarded by flights.mu
	done    chan struct{}
	pulled  T // valid after done
	err     error
}

func (f *flights[T]) join(ctx context.Context, ref string, pull func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	one := f.byRef[ref]
	if one == nil {
		one = f.begin(context.WithoutCancel(ctx), ref, pull)
	}
	one.waiters++
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.pulled, one.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	one.waiters--
	last := one.waiters == 0
	if last {
		f.forget(ref, one) // who comes later begins anew
	}
	f.mu.Unlock()
	if last {
		one.cancel()
		<-one.done
	}
	var none T
	return none, ctx.Err()
}

// begin starts a pull; f.mu is held.
func (f *flights[T]) begin(ctx context.Context, ref string, pull func(context.Context) (T, error)) *flight[T] {
	ctx, cancel := context.WithCancel(ctx)
	one := &flight[T]{cancel: cancel, done: make(chan struct{})}
	if f.byRef == nil {
		f.byRef = map[string]*flight[T]{}
	}
	f.byRef[ref] = one
	go func() {
		defer close(one.done)
		defer cancel()
		one.pulled, one.err = pull(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.forget(ref, one)
	}()
	return one
}

func (f *flights[T]) forget(ref string, one *flight[T]) {
	if f.byRef[ref] == one {
		delete(f.byRef, ref)
	}
}

// stallTime is how long a registry may send nothing before its connection is
// given up. There is no limit for a whole pull: slow is not broken.
const stallTime = time.Minute

// patient ends requests that make no progress.
type patient struct {
	next  http.RoundTripper
	stall time.Duration
}

// stalledError is the cause of a request that was ended for silence.
type stalledError struct {
	host string
	time time.Duration
}

func (e *stalledError) Error() string {
	return fmt.Sprintf("%s has sent nothing for %v; check the network and the registry", e.host, e.time)
}

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(p.stall, func() { cancel(&stalledError{req.URL.Host, p.stall}) })
	body := &patientBody{ctx: ctx, cancel: cancel, timer: timer, stall: p.stall}
	resp, err := p.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		err = body.explain(err)
		body.end()
		return nil, err
	}
	timer.Reset(p.stall)
	body.ReadCloser = resp.Body
	resp.Body = body
	return resp, nil
}

type patientBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.explain(err)
	}
	return n, err
}

// explain says the cause in place of "context canceled".
func (b *patientBody) explain(err error) error {
	var stalled *stalledError
	if errors.As(context.Cause(b.ctx), &stalled) {
		return stalled
	}
	return err
}

func (b *patientBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

func (b *patientBody) end() {
	b.timer.Stop()
	b.cancel(nil)
}
