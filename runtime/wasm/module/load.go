package module

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// Module is a compiled module in one runtime. Any number of instances of it
// may run at the same time.
type Module struct {
	rt       wazero.Runtime
	compiled wazero.CompiledModule
	image    *image // nil: data segments fill the memory
	info     *Info
}

// loading is a Load in progress or its result.
type loading struct {
	done   chan struct{}
	module *Module // valid after done
	err    error
}

// Load returns the module of sum in runtime rt, which should have been made
// with RuntimeConfig. Prepare must have succeeded, in this process or an
// earlier one. The result is kept until Drop or Close: later calls are a map
// lookup.
func (c *Cache) Load(ctx context.Context, rt wazero.Runtime, sum string) (*Module, error) {
	key := moduleKey{rt, sum}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("load module %s: %w", sum, context.Canceled)
	}
	l, ok := c.modules[key]
	if !ok {
		l = &loading{done: make(chan struct{})}
		c.modules[key] = l
		c.work.Add(1)
		go c.load(l, key)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.module, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("load module %s: %w", sum, ctx.Err())
	}
}

func (c *Cache) load(l *loading, key moduleKey) {
	defer c.work.Done()
	l.module, l.err = c.fromDisk(key)
	if errors.Is(l.err, errCorrupt) {
		l.module, l.err = c.rebuild(key, l.err)
	}
	if l.err != nil {
		l.err = fmt.Errorf("load module %s: %w", key.sum, l.err)
		c.mu.Lock()
		if c.modules[key] == l {
			delete(c.modules, key) // the next call tries again
		}
		c.mu.Unlock()
	}
	close(l.done)
}

// rebuild prepares a module again whose entry was damaged since.
func (c *Cache) rebuild(key moduleKey, cause error) (*Module, error) {
	c.mu.Lock()
	p, ok := c.prepared[key.sum]
	delete(c.prepared, key.sum)
	c.mu.Unlock()
	if !ok {
		return nil, cause
	}
	if err := c.Prepare(c.ctx, p.path, key.sum); err != nil {
		return nil, err
	}
	return c.fromDisk(key)
}

func (c *Cache) fromDisk(key moduleKey) (*Module, error) {
	e, err := c.readEntry(key.sum)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotPrepared
	}
	if err != nil {
		return nil, err
	}
	// wazero's own checksum covers the machine code but not its tables.
	if err := c.verify(e); err != nil {
		return nil, err
	}
	wasm, err := c.readFile(e, e.Wasm)
	if err != nil {
		return nil, err
	}
	m := &Module{rt: key.rt, info: e.Info}
	if e.Image != "" {
		content, err := c.readFile(e, e.Image)
		if err != nil {
			return nil, err
		}
		if m.image, err = newImage(content, e.ImageOffset); err != nil {
			return nil, err
		}
	}
	ctx := experimental.WithCompilationWorkers(c.ctx, c.cfg.CompileWorkers)
	if m.compiled, err = key.rt.CompileModule(ctx, wasm); err != nil {
		if c.cfg.Interpret && c.ctx.Err() == nil { // nobody has looked at it before
			err = invalid("the module is not valid: %v", err)
		}
		return nil, errors.Join(fmt.Errorf("compile: %w", err), m.image.close())
	}
	return m, nil
}

// Size is the room that a prepared module takes in the cache, in bytes; 0 when
// it is not there.
func (c *Cache) Size(sum string) int64 {
	e, err := c.readEntry(sum)
	if err != nil {
		return 0
	}
	var n int64
	for path := range e.Files {
		if info, err := os.Stat(filepath.Join(c.cfg.Dir, path)); err == nil {
			n += info.Size()
		}
	}
	return n
}

// Info says what the module is.
func (m *Module) Info() *Info { return m.info }

// Compiled is wazero's view of the module, for its definitions.
func (m *Module) Compiled() wazero.CompiledModule { return m.compiled }

func (m *Module) close(ctx context.Context) error {
	return errors.Join(m.compiled.Close(ctx), m.image.close())
}

// Limits are what one instance may use.
type Limits struct {
	// MemoryBytes bounds the linear memory, rounded down to pages of 64 KiB;
	// 0: only the module's own maximum does. Memory takes its place when set.
	MemoryBytes int64
	Memory      *Gauge
	// Meter preempts, throttles and kills the instance; nil only preempts it.
	Meter *Meter
	// Refused, if set, is called when the guest asks for more memory than it
	// may have, on the guest's goroutine.
	Refused func()
}

// Instantiate makes an instance, without a name and without calling _start:
// that is the caller's, with WithMeter in its context. Only a module's start
// section runs. A *MemoryLimitError says that the limit is too low to begin
// with.
//
// Closing the instance gives its memory back at once. It must be closed only
// when no call into it runs and no other goroutine uses its memory; to end a
// running guest, Kill its meter and wait for the call to return.
func (m *Module) Instantiate(ctx context.Context, cfg wazero.ModuleConfig, limits Limits) (api.Module, error) {
	if limits.Meter != nil {
		ctx = WithMeter(ctx, limits.Meter)
	}
	cfg = cfg.WithName("").WithStartFunctions()
	if !m.info.HasMemory {
		return m.rt.InstantiateModule(ctx, m.compiled, cfg)
	}
	need, limit := uint64(m.info.MinMemoryPages)*PageSize, uint64(m.info.MaxMemoryPages)*PageSize
	gauge := limits.Memory
	if gauge == nil {
		gauge = NewGauge(limits.MemoryBytes)
	}
	if bound := min(limit, gauge.bound()); need > bound {
		return nil, &MemoryLimitError{Need: int64(need), Limit: int64(bound)}
	}
	mem, err := newMemory(need, limit, gauge, m.image)
	if err != nil {
		return nil, err
	}
	mem.refused = limits.Refused
	mod, err := m.rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, mem.allocator()), m.compiled, cfg)
	if err != nil {
		mem.Free() // wazero does not when its instantiation fails
		return nil, err
	}
	return mod, nil
}
