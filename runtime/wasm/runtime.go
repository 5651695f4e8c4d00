package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// Config is what a Runtime needs.
type Config struct {
	// Dir keeps prepared modules between runs of the process.
	Dir string
	Log *slog.Logger
	// OnCompile is told what a preparation does, for a progress line: the
	// module's digest, the phase it has finished and how long that took.
	OnCompile func(sum, phase string, elapsed time.Duration)
	// Resolve finds addresses of a name for a guest that asks. Nil: guests get
	// an address that stands for the name, and Pod.Dial gets the name back.
	Resolve func(ctx context.Context, pod sandbox.Pod, host string) ([]netip.Addr, error)
	// Descriptors is how many descriptors of the host all guests may hold
	// together. 0: three quarters of what the process may have open.
	Descriptors int64
	// Interpret runs modules without compiling them.
	Interpret bool
}

// Runtime runs wasm modules as pods.
type Runtime struct {
	cfg    Config
	engine *engine
	cpus   *module.Processors
	quotas quotas
	fds    *wasi.Descriptors

	trimmer module.Trimmer

	mu           sync.Mutex
	interpreting *engine // of images that are to be interpreted; made for the first one
	sandboxes    map[*podSandbox]struct{}
	closed       bool
}

var (
	_ sandbox.Runtime   = (*Runtime)(nil)
	_ sandbox.Forgetter = (*Runtime)(nil)
)

// New returns a Runtime that keeps its cache in cfg.Dir. Close frees it.
func New(cfg Config) (*Runtime, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	return &Runtime{
		cfg: cfg, engine: e, cpus: module.NewProcessors(), fds: newDescriptors(cfg.Descriptors),
		sandboxes: map[*podSandbox]struct{}{},
	}, nil
}

// newDescriptors is the guests' part of the process' descriptors; nil, no
// bound, where the system does not tell.
func newDescriptors(n int64) *wasi.Descriptors {
	if n == 0 {
		n = hostDescriptors() / 4 * 3
	}
	if n == 0 {
		return nil
	}
	return wasi.NewDescriptors(n)
}

// Prepare implements sandbox.Runtime.
func (r *Runtime) Prepare(ctx context.Context, image sandbox.Image) error {
	e, err := r.engineOf(image)
	if err != nil {
		return err
	}
	return e.prepare(ctx, image)
}

// load returns the program of an image, by the engine that it is for.
func (r *Runtime) load(ctx context.Context, image sandbox.Image) (*program, error) {
	e, err := r.engineOf(image)
	if err != nil {
		return nil, err
	}
	return e.load(ctx, image)
}

// engineOf is the engine that runs an image. Without a compiler there is only
// one.
func (r *Runtime) engineOf(image sandbox.Image) (*engine, error) {
	if !image.Interpret || r.cfg.Interpret || !Compiles() {
		return r.engine, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	if r.interpreting == nil {
		cfg := r.cfg
		cfg.Dir, cfg.Interpret = filepath.Join(cfg.Dir, interpretedDir), true
		e, err := newEngine(cfg)
		if err != nil {
			return nil, err
		}
		r.interpreting = e
	}
	return r.interpreting, nil
}

var errClosed = errors.New("the wasm runtime is closed")

// Create implements sandbox.Runtime.
func (r *Runtime) Create(_ context.Context, pod sandbox.Pod) (sandbox.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	s := newSandbox(r, pod)
	r.sandboxes[s] = struct{}{}
	return s, nil
}

// Recover implements sandbox.Runtime: guests end with the process.
func (r *Runtime) Recover(context.Context) ([]sandbox.Sandbox, error) { return nil, nil }

func (r *Runtime) forget(s *podSandbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, s)
}

// Close ends every sandbox and frees compiled modules.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	open := make([]*podSandbox, 0, len(r.sandboxes))
	for s := range r.sandboxes {
		open = append(open, s)
	}
	r.mu.Unlock()
	var errs []error
	for _, s := range open {
		if err := s.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close pod %s/%s: %w", s.pod.Namespace, s.pod.Name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // guests still run: their modules must stay
	}
	err := r.engine.close(ctx)
	if r.interpreting != nil { // which nobody makes any more
		err = errors.Join(err, r.interpreting.close(ctx))
	}
	return err
}
