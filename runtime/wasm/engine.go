package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/runtime/wasm/tools"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// engine turns images into instances. A wazero.Runtime has one host module of
// a name, so there is one runtime per variant of it; nearly all modules share
// the first.
type engine struct {
	dir      string
	toolsSum string // of the module of package tools
	cache    *module.Cache

	mu  sync.Mutex
	rts map[wasi.Variant]wazero.Runtime

	uses      uses
	snapshots snapshots
}

// program is a module that is ready to be instantiated. Whoever got it from
// load releases it when the last instance is closed.
type program struct {
	module *module.Module
	// goModule: one thread that must not block in accept.
	goModule bool
	snapshot bool // it begins where its initialisation has ended
	// release may be called more than once.
	release func()
}

// startFunction is what makes a module a command.
const startFunction = "_start"

func newEngine(cfg Config) (*engine, error) {
	cache, err := module.NewCache(module.Config{
		Dir: cfg.Dir, Log: cfg.Log, OnCompile: cfg.OnCompile,
		HostImports: offered, Interpret: cfg.Interpret,
	})
	if err != nil {
		return nil, err
	}
	e := &engine{
		dir: cfg.Dir, toolsSum: tools.Sum(), cache: cache, rts: map[wasi.Variant]wazero.Runtime{},
		snapshots: snapshots{dir: filepath.Join(cfg.Dir, "snapshots")},
	}
	e.uses = newUses(func(sum string) {
		if err := cache.Unload(context.Background(), sum); err != nil && cfg.Log != nil {
			cfg.Log.Warn("module stays in memory", "module", sum, "err", err)
		}
	})
	return e, nil
}

// runtime returns the runtime whose system calls have the given types.
func (e *engine) runtime(ctx context.Context, v wasi.Variant) (wazero.Runtime, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if rt := e.rts[v]; rt != nil {
		return rt, nil
	}
	config := e.cache.RuntimeConfig()
	ctx = context.WithoutCancel(ctx) // what it makes outlives the request
	rt := wazero.NewRuntimeWithConfig(ctx, config)
	err := module.InstantiateHost(ctx, rt)
	if err == nil {
		err = wasi.Instantiate(ctx, rt, v)
	}
	if err != nil {
		return nil, errors.Join(err, rt.Close(ctx))
	}
	e.rts[v] = rt
	return rt, nil
}

// prepare does all that can be done before a container starts.
func (e *engine) prepare(ctx context.Context, image sandbox.Image) error {
	image, err := e.snapshots.of(ctx, image)
	if err != nil {
		return err
	}
	if err := e.admit(ctx, image); err != nil {
		return err
	}
	p, err := e.loadAdmitted(ctx, image)
	if err != nil {
		return err
	}
	defer p.release() // it stays in memory for a while
	return p.checkStart(image.Ref)
}

// admit prepares the module of an image, which may be a library.
func (e *engine) admit(ctx context.Context, image sandbox.Image) error {
	err := e.cache.Prepare(ctx, image.Module, image.ModuleSum)
	var invalid *module.InvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return &sandbox.InvalidImageError{Ref: image.Ref, Reason: invalid.Reason}
	}
	return fmt.Errorf("prepare image %q: %w", image.Ref, err)
}

// checkStart refuses a module that cannot be started as a program.
func (p *program) checkStart(ref string) error {
	if info := p.module.Info(); exports(info, startFunction) || exports(info, handleFunction) {
		return nil
	}
	return &sandbox.InvalidImageError{Ref: ref, Reason: notAProgram}
}

const notAProgram = "the module exports no function \"" + startFunction + "\", so it is a library; build it as a command (a program with a main function)"

// load returns the program of an image, preparing it if nobody has.
func (e *engine) load(ctx context.Context, image sandbox.Image) (*program, error) {
	image, err := e.snapshots.of(ctx, image)
	if err != nil {
		return nil, err
	}
	return e.loadAdmitted(ctx, image)
}

// loadAdmitted admits what nobody has admitted, or what was forgotten since.
func (e *engine) loadAdmitted(ctx context.Context, image sandbox.Image) (*program, error) {
	p, err := e.loadPrepared(ctx, image)
	if !errors.Is(err, module.ErrNotPrepared) {
		return p, err
	}
	if err := e.admit(ctx, image); err != nil {
		return nil, err
	}
	return e.loadPrepared(ctx, image)
}

func (e *engine) loadPrepared(ctx context.Context, image sandbox.Image) (*program, error) {
	release := e.uses.acquire(image.ModuleSum)
	p, err := e.loadInUse(ctx, image)
	if err != nil {
		release()
		return nil, err
	}
	p.release = release
	return p, nil
}

// loadInUse loads a module that is counted as in use, so that nobody unloads
// it meanwhile.
func (e *engine) loadInUse(ctx context.Context, image sandbox.Image) (*program, error) {
	// Which runtime a module needs is only known once it is loaded; the first
	// one is nearly always right, and a module that it is wrong for still
	// loads there: imports are linked at instantiation.
	m, err := e.loadIn(ctx, wasi.Standard, image)
	if err == nil && needsFirstSockets(m.Info()) {
		m, err = e.loadIn(ctx, wasi.FirstSockets, image)
	}
	if err != nil {
		return nil, err
	}
	return &program{module: m, goModule: m.Info().GoModule, snapshot: image.Snapshot}, nil
}

func (e *engine) loadIn(ctx context.Context, v wasi.Variant, image sandbox.Image) (*module.Module, error) {
	rt, err := e.runtime(ctx, v)
	if err != nil {
		return nil, err
	}
	m, err := e.cache.Load(ctx, rt, image.ModuleSum)
	if invalid := (*module.InvalidError)(nil); errors.As(err, &invalid) {
		return nil, &sandbox.InvalidImageError{Ref: image.Ref, Reason: invalid.Reason}
	}
	if err != nil {
		return nil, fmt.Errorf("load image %q: %w", image.Ref, err)
	}
	return m, nil
}

func needsFirstSockets(info *module.Info) bool {
	return slices.ContainsFunc(info.Imports, func(i module.Import) bool {
		return i.Module == wasi.ModuleName && i.Kind == "function" && wasi.NeedsFirstSockets(i.Name, i.Params)
	})
}

func exports(info *module.Info, name string) bool {
	return slices.ContainsFunc(info.Exports, func(x module.Export) bool { return x.Name == name && x.Kind == "function" })
}

// instantiate makes one running copy. ctx carries the guest and its meter.
func (p *program) instantiate(ctx context.Context, l module.Limits) (api.Module, error) {
	// wazero's own source of randomness, which nobody uses, takes 5 KiB.
	return p.module.Instantiate(ctx, wazero.NewModuleConfig().WithRandSource(rand.Reader), l)
}

// close frees everything; no instance may be left.
func (e *engine) close(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, rt := range e.rts {
		errs = append(errs, rt.Close(ctx))
	}
	return errors.Join(append(errs, e.cache.Close(ctx))...)
}
