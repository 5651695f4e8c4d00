package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/memconn"
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// handleFunction is what a library exports to answer one request, in place of a
// program's start. Its _initialize runs before.
const handleFunction = "wherry_handle"

// Defaults of sandbox.Handler.
const (
	defaultConcurrency = 8
	defaultDeadline    = 30 * time.Second
	// lastWord is how long a client may take beyond the deadline to read that it
	// has passed; a guest that writes to one that does not read ends then.
	lastWord = 2 * time.Second
)

// requests is the life of a container that answers each request with a fresh
// instance: an HTTP server on its first port.
type requests struct {
	c     *container
	want  sandbox.Handler
	port  uint16
	slots chan struct{} // one for each instance that runs
	ready chan prepared // instances made ahead
	used  atomic.Int64  // processor time of the instances that have ended
	log   *slog.Logger

	mu        sync.Mutex
	instances map[*module.Gauge]struct{} // memories of those that there are
}

// prepared is an instance that waits for its request.
type prepared struct {
	in    api.Module
	meter *module.Meter
	limit *module.Gauge
}

func newRequests(c *container) (*requests, error) {
	h := *c.spec.Handler
	h.Concurrency = cmp.Or(h.Concurrency, defaultConcurrency)
	h.Deadline = cmp.Or(h.Deadline, defaultDeadline)
	if h.Concurrency < 0 || h.Deadline < 0 || h.Prepared < 0 {
		return nil, errors.New("a request handler's concurrency, deadline and prepared instances cannot be negative")
	}
	if len(c.ports) != 1 || len(c.packets) > 0 {
		return nil, errors.New("a request handler needs exactly one TCP port: give the container one containerPort")
	}
	return &requests{
		c: c, want: h, port: c.ports[0].number, log: c.sandbox.net.log.With("container", c.spec.Name),
		slots: make(chan struct{}, h.Concurrency), ready: make(chan prepared, h.Prepared),
		instances: map[*module.Gauge]struct{}{},
	}, nil
}

// serve answers requests until the port ends or the container is killed.
func (q *requests) serve() error {
	mem := q.c.ports[0].mem
	ctx, cancel := context.WithCancel(q.c.ctx)
	server := &http.Server{
		Handler: http.HandlerFunc(q.answer), ReadHeaderTimeout: q.want.Deadline,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(q.log.Handler(), slog.LevelDebug),
	}
	var work sync.WaitGroup
	if q.want.Prepared > 0 && !q.c.program.module.Info().HasStart {
		work.Go(func() { q.prepare(ctx) })
	}
	ended := make(chan struct{})
	work.Go(func() {
		select {
		case <-ended:
		case <-q.c.meter.Done():
			cancel() // ends every instance
			_ = server.Close()
		}
	})
	err := server.Serve(newQueue(mem))
	// The port has ended: what is under way may finish. Shutdown waits for it,
	// and a kill cuts it short.
	_ = server.Shutdown(ctx)
	cancel()
	for range cap(q.slots) { // no instance is left
		q.slots <- struct{}{}
	}
	close(ended)
	work.Wait()
	for len(q.ready) > 0 {
		q.discard(context.Background(), <-q.ready)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// prepare keeps instances ready: as many as were asked for, and one in hand.
func (q *requests) prepare(ctx context.Context) {
	for {
		made, err := q.instance(ctx, nil)
		if err != nil { // requests make their own, and say why they cannot
			q.log.Warn("no instance could be made ahead", "error", err)
			return
		}
		select {
		case q.ready <- made:
		case <-ctx.Done():
			q.discard(context.Background(), made)
			return
		}
	}
}

// instance makes one. A start section may already use the system, and needs a
// guest; without one it ends with an error.
func (q *requests) instance(ctx context.Context, guest *wasi.Guest) (prepared, error) {
	p := prepared{meter: module.NewMeter(q.c.spec.CPULimit), limit: module.NewGauge(q.c.spec.MemoryLimit).In(q.c.sandbox.memory)}
	p.meter.Share(q.c.sandbox.runtime.cpus, q.c.spec.CPURequest)
	ctx = module.WithMeter(ctx, p.meter)
	if guest != nil {
		ctx = wasi.WithGuest(ctx, guest)
	}
	stop := context.AfterFunc(ctx, p.meter.Kill)
	defer stop()
	var err error
	p.in, err = q.c.program.instantiate(ctx, module.Limits{Memory: p.limit, Meter: p.meter})
	p.meter.Leave()
	if err == nil {
		q.mu.Lock()
		q.instances[p.limit] = struct{}{}
		q.mu.Unlock()
	}
	return p, err
}

// discard ends an instance that nobody calls any more.
func (q *requests) discard(ctx context.Context, p prepared) {
	q.mu.Lock()
	delete(q.instances, p.limit)
	q.mu.Unlock()
	_ = p.in.Close(ctx)
}

// held is what the memories of all instances hold, in bytes.
func (q *requests) held() (total int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for memory := range q.instances {
		total += memory.Held()
	}
	return total
}

// answer is the handler of one request.
func (q *requests) answer(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), q.want.Deadline)
	defer cancel()
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	case <-ctx.Done():
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("all %d instances of the handler are busy", q.want.Concurrency), http.StatusServiceUnavailable)
		return
	}
	deadline, _ := ctx.Deadline()
	_ = http.NewResponseController(w).SetWriteDeadline(deadline.Add(lastWord))
	body, length, err := cgiBody(w, r)
	if err != nil {
		http.Error(w, fmt.Sprintf("read the request: %v", err), http.StatusRequestEntityTooLarge)
		return
	}
	answer := &cgiAnswer{to: w}
	env, err := q.c.environment()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	guest, err := wasi.NewGuest(ctx, wasi.Config{
		Args: q.c.args(), Env: slices.Concat(env, cgiEnvironment(r, length, q.port)),
		Stdin: body, Stdout: answer, Stderr: q.c.spec.Stderr,
		Mounts: q.c.mounts, Descriptors: q.c.sandbox.runtime.fds, Network: guestNet{q.c.sandbox.net, q.c},
	})
	if err != nil {
		q.log.Warn("a request could not begin", "error", err)
		http.Error(w, "the handler could not begin", http.StatusInternalServerError)
		return
	}
	defer guest.Close()
	err = q.handle(ctx, guest)
	q.finish(ctx, w, answer, err)
}

// handle runs one instance to its end.
func (q *requests) handle(ctx context.Context, guest *wasi.Guest) error {
	var p prepared
	var err error
	select {
	case p = <-q.ready:
	default:
		p, err = q.instance(ctx, guest)
	}
	if err != nil {
		return err
	}
	guest.BeforePark(p.meter.Leave)
	guest.OnPark(func(waited time.Duration, _ bool) { p.meter.Idle(waited) })
	stop := context.AfterFunc(ctx, func() {
		guest.Interrupt(exitKilled)
		p.meter.Kill()
	})
	defer func() {
		stop()
		p.meter.Leave()
		q.used.Add(int64(p.meter.Used()))
		q.discard(context.WithoutCancel(ctx), p)
	}()
	guestCtx := wasi.WithGuest(module.WithMeter(ctx, p.meter), guest)
	handle := p.in.ExportedFunction(handleFunction)
	if err := q.c.program.begin(guestCtx, p.in, handle != nil); err != nil {
		return err
	}
	start := p.in.ExportedFunction(startFunction)
	if handle != nil {
		start = handle
	}
	_, err = p.meter.Call(guestCtx, start, p.limit)
	return err
}

// finish tells the client of an instance that has not answered as it should.
func (q *requests) finish(ctx context.Context, w http.ResponseWriter, answer *cgiAnswer, err error) {
	exit := exitOf(err)
	switch {
	case ctx.Err() != nil && !answer.begun:
		http.Error(w, "the handler has not answered in time", http.StatusGatewayTimeout)
	case ctx.Err() != nil:
		panic(http.ErrAbortHandler) // the client must not take half for all
	case answer.err != nil || !answer.begun && exit == 0:
		err = cmp.Or(answer.err, errCGIHeader)
		q.log.Warn("a handler has not answered", "error", err)
		clear(w.Header())
		http.Error(w, err.Error(), http.StatusBadGateway)
	case exit != 0 && !answer.begun:
		q.log.Warn("a handler has failed", "code", exit, "error", err)
		http.Error(w, fmt.Sprintf("the handler has failed with code %d", exit), http.StatusBadGateway)
	case exit != 0:
		q.log.Warn("a handler has failed in the middle of its answer", "code", exit, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// queue is a listener in memory as the net package's.
type queue struct {
	mem  *memconn.Listener
	bell chan struct{}
	done chan struct{}
	once sync.Once
}

func newQueue(mem *memconn.Listener) *queue {
	q := &queue{mem: mem, bell: make(chan struct{}, 1), done: make(chan struct{})}
	mem.SetNotify(func() {
		select {
		case q.bell <- struct{}{}:
		default:
		}
	})
	return q
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	for {
		c, err := q.mem.TryAccept()
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, memconn.ErrWouldBlock):
			return nil, err
		}
		select {
		case <-q.bell:
		case <-q.done:
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener. The port itself is the container's.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.mem.Addr() }
