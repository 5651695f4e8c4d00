package module

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// Features are the WebAssembly features that modules may use: all of version
// 2.0, tail calls, extended constants and exceptions.
const Features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling

// Phases of Prepare's work, as Config.OnCompile gets them.
const (
	PhaseRewrite = "rewrite"
	PhaseCompile = "compile" // reported once a second
	PhaseStore   = "store"
	PhaseDone    = "done"
)

const tempPrefix = "tmp-"

// Config says where a Cache keeps its files and what modules may import.
type Config struct {
	// Dir is the cache's directory; it is created. Whoever can write to it can
	// run code as this process.
	Dir string
	Log *slog.Logger // nil: discard
	// HostImports says which functions the host offers; nil offers all, and a
	// missing one shows when a module is instantiated.
	HostImports func(module, name string) bool
	// CompileWorkers is how many goroutines compile one module, while other
	// modules wait; 0 is half of GOMAXPROCS, at least one, so that guests that
	// run keep a processor.
	CompileWorkers int
	// CompileTime is how long one module may take to compile; 0: ten minutes. What
	// takes longer is refused. It ends at the next function when there are two
	// workers and more, else it goes on, and others wait for it.
	CompileTime time.Duration
	// Interpret prepares modules for the interpreter: rewritten, and not
	// compiled. One that is not valid is refused by Load then.
	Interpret bool
	// OnCompile is told of progress, if set; it must not block.
	OnCompile func(sum, phase string, elapsed time.Duration)
}

// Cache holds prepared modules on disk and compiled ones in memory. Its methods
// are safe for concurrent use.
type Cache struct {
	cfg  Config
	code wazero.CompilationCache
	// ctx ends with Close and bounds all work that outlives its callers.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	turn   chan struct{} // held by the one module that is being compiled

	mu       sync.Mutex
	closed   bool
	flights  map[string]*flight       // Prepare, by sum
	dropping map[string]chan struct{} // Drop, by sum; closed at its end
	prepared map[string]prepared
	modules  map[moduleKey]*loading
}

// prepared is a module that this process has seen complete on disk.
type prepared struct {
	entry *entry
	path  string // of the original
}

// flight is one run of Prepare that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error // valid after done
}

type moduleKey struct {
	rt  wazero.Runtime
	sum string
}

// NewCache opens or creates the cache in cfg.Dir.
func NewCache(cfg Config) (*Cache, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.CompileWorkers <= 0 {
		cfg.CompileWorkers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if cfg.CompileTime <= 0 {
		cfg.CompileTime = 10 * time.Minute
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("module cache: %w", err)
	}
	cfg.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the module cache: %w", err)
	}
	removeTemps(cfg)
	code, err := wazero.NewCompilationCacheWithDir(filepath.Join(dir, codeDir))
	if err != nil {
		return nil, fmt.Errorf("open the module cache: %w", err)
	}
	c := &Cache{
		cfg: cfg, code: code, turn: make(chan struct{}, 1),
		flights: map[string]*flight{}, dropping: map[string]chan struct{}{}, prepared: map[string]prepared{}, modules: map[moduleKey]*loading{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// removeTemps clears what a crash has left behind. Only directories older than
// an hour go: another process may be compiling into the same cache.
func removeTemps(cfg Config) {
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return // Prepare will say so
	}
	for _, d := range entries {
		info, err := d.Info()
		if err != nil || !strings.HasPrefix(d.Name(), tempPrefix) || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cfg.Dir, d.Name())); err != nil {
			cfg.Log.Warn("leftover of the module cache stays", "dir", d.Name(), "err", err)
		}
	}
}

// Close waits for work in progress, which it ends, and frees all modules. Every
// instance must have ended, and every runtime been closed, before.
func (c *Cache) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	modules := c.modules
	c.modules = map[moduleKey]*loading{}
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
	var errs []error
	for _, l := range modules {
		if l.module != nil {
			errs = append(errs, l.module.close(ctx))
		}
	}
	return errors.Join(append(errs, c.code.Close(ctx))...)
}

// runtimeConfig is the part of a runtime's configuration that compiled code
// depends on. On platforms without a compiler it is the interpreter.
func runtimeConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfig().WithCoreFeatures(Features).WithDebugInfoEnabled(false)
}

// RuntimeConfig is the configuration for runtimes that load from this cache;
// with another one, Load compiles again.
func (c *Cache) RuntimeConfig() wazero.RuntimeConfig {
	if c.cfg.Interpret {
		return wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(Features)
	}
	return runtimeConfig().WithCompilationCache(c.code)
}

// Prepare makes the module in file path, whose digest is sum, ready for Load:
// checked, rewritten, compiled and on disk. For each sum the work is done once;
// a caller that gives up does not end it for the others. An *InvalidError says
// that the module can never run.
func (c *Cache) Prepare(ctx context.Context, path, sum string) error {
	c.mu.Lock()
	if _, ok := c.prepared[sum]; ok {
		c.mu.Unlock()
		return nil
	}
	if c.closed {
		c.mu.Unlock()
		return fmt.Errorf("prepare module %s: %w", sum, context.Canceled)
	}
	if c.dropping[sum] != nil {
		return c.prepareAfter(ctx, path, sum)
	}
	f, ok := c.flights[sum]
	if !ok {
		f = &flight{done: make(chan struct{})}
		c.flights[sum] = f
		c.work.Add(1)
		go c.fly(f, path, sum)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("prepare module %s: %w", sum, ctx.Err())
	}
}

func (c *Cache) fly(f *flight, path, sum string) {
	defer c.work.Done()
	e, err := c.ready(path, sum)
	if err != nil {
		f.err = fmt.Errorf("prepare module %s: %w", sum, err)
	}
	c.mu.Lock()
	delete(c.flights, sum)
	if err == nil {
		c.prepared[sum] = prepared{entry: e, path: path}
	}
	c.mu.Unlock()
	close(f.done)
}

// ready returns the entry of sum, from disk if it is whole.
func (c *Cache) ready(path, sum string) (*entry, error) {
	e, err := c.readEntry(sum)
	if err == nil {
		err = c.verify(e)
	}
	switch {
	case err == nil:
		// What the host offers may be less than when the entry was made.
		return e, CheckImports(e.Info, c.cfg.HostImports)
	case errors.Is(err, errCorrupt):
		c.cfg.Log.Warn("module cache entry is corrupt and is built again", "sum", sum, "err", err)
		c.discard(e)
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	select {
	case c.turn <- struct{}{}:
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	return c.buildInTime(path, sum)
}

// buildInTime is build by whoever has the turn, which ends with the work, also
// with work that nobody waits for any more.
func (c *Cache) buildInTime(path, sum string) (*entry, error) {
	late := invalid("the module takes longer than %v to compile on this node; build it smaller, or without inlining that much", c.cfg.CompileTime)
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.cfg.CompileTime, late)
	type result struct {
		entry *entry
		err   error
	}
	done := make(chan result, 1)
	c.work.Go(func() {
		defer cancel()
		defer func() { <-c.turn }()
		e, err := c.build(ctx, path, sum)
		done <- result{e, err}
	})
	select {
	case r := <-done:
		if r.err != nil && context.Cause(ctx) == error(late) {
			return nil, late
		}
		return r.entry, r.err
	case <-ctx.Done():
	}
	if cause := context.Cause(ctx); cause != error(late) {
		r := <-done // the cache is being closed, or it was done at the same time
		return r.entry, r.err
	}
	return nil, late
}

// discard removes an entry's code, which wazero would otherwise read.
func (c *Cache) discard(e *entry) {
	if e == nil {
		return // its files are written anew, under the same names
	}
	for path := range e.Files {
		if err := os.Remove(filepath.Join(c.cfg.Dir, path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			c.cfg.Log.Warn("corrupt file of the module cache stays", "file", path, "err", err)
		}
	}
}

// Unload forgets a module from memory, for all runtimes: its machine code and
// its image. The next Load reads it from the disk. No instance of it may be
// running, and nobody may be about to make one.
func (c *Cache) Unload(ctx context.Context, sum string) error {
	c.mu.Lock()
	var gone []*loading
	for key, l := range c.modules {
		if key.sum == sum {
			gone = append(gone, l)
			delete(c.modules, key)
		}
	}
	c.mu.Unlock()
	var errs []error
	for _, l := range gone {
		<-l.done
		if l.module != nil {
			errs = append(errs, l.module.close(ctx))
		}
	}
	return errors.Join(errs...)
}
