package wasm

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// engine turns images into instances.
type engine struct {
	cfg Config

	mu       sync.Mutex
	rts      map[wasi.Variant]wazero.Runtime
	programs map[string]*program
}

// program is a module that is ready to be instantiated.
type program struct {
	rt       wazero.Runtime
	compiled wazero.CompiledModule
	goModule bool
}

func newEngine(cfg Config) (*engine, error) {
	return &engine{cfg: cfg, rts: map[wasi.Variant]wazero.Runtime{}, programs: map[string]*program{}}, nil
}

func (e *engine) runtime(ctx context.Context, v wasi.Variant) (wazero.Runtime, error) {
	if rt := e.rts[v]; rt != nil {
		return rt, nil
	}
	rc := wazero.NewRuntimeConfig()
	if e.cfg.Interpret {
		rc = wazero.NewRuntimeConfigInterpreter()
	}
	rt := wazero.NewRuntimeWithConfig(ctx, rc.WithCloseOnContextDone(true))
	if err := wasi.Instantiate(ctx, rt, v); err != nil {
		return nil, err
	}
	e.rts[v] = rt
	return rt, nil
}

func (e *engine) prepare(ctx context.Context, image sandbox.Image) error {
	_, err := e.load(ctx, image)
	return err
}

func (e *engine) load(ctx context.Context, image sandbox.Image) (*program, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.programs[image.ModuleSum]; p != nil {
		return p, nil
	}
	rt, err := e.runtime(ctx, wasi.Standard)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(image.Module)
	if err != nil {
		return nil, fmt.Errorf("read module of image %q: %w", image.Ref, err)
	}
	compiled, err := rt.CompileModule(ctx, b)
	if err != nil {
		return nil, &sandbox.InvalidImageError{Ref: image.Ref, Reason: err.Error()}
	}
	p := &program{rt: rt, compiled: compiled, goModule: true}
	e.programs[image.ModuleSum] = p
	return p, nil
}

// instance is one running copy of a program.
type instance struct {
	module api.Module
}

type limits struct {
	memory  int64
	meter   meter
	refused func() // called when the guest asked for more than its limit
}

func (p *program) instantiate(ctx context.Context, l limits) (*instance, error) {
	m, err := p.rt.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	return &instance{module: m}, nil
}

func (e *engine) close(ctx context.Context) error {
	for _, rt := range e.rts {
		if err := rt.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

const startFunction = "_start"

type meter struct{}

func newMeter(int64) meter { return meter{} }
func (meter) Kill()        {}

func isKilled(error) bool { return false }

func (in *instance) call(ctx context.Context, name string) error {
	_, err := in.module.ExportedFunction(name).Call(ctx)
	return err
}

func (in *instance) close(ctx context.Context) { _ = in.module.Close(ctx) }
