package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/module"
)

// interpretedDir is where the engine for images that are not compiled keeps its
// files.
const interpretedDir = "interpreted"

// Forget implements sandbox.Forgetter.
func (r *Runtime) Forget(ctx context.Context, moduleSum string) (int64, error) {
	freed, err := r.engine.forget(ctx, moduleSum)
	if err != nil {
		return freed, err
	}
	if _, err := os.Stat(filepath.Join(r.cfg.Dir, interpretedDir)); errors.Is(err, fs.ErrNotExist) {
		return freed, nil // nothing was ever interpreted
	}
	e, err := r.engineOf(sandbox.Image{Interpret: true})
	if err != nil || e == r.engine {
		return freed, err
	}
	more, err := e.forget(ctx, moduleSum)
	return freed + more, err
}

// forget removes what was made of a module, its snapshot first.
func (e *engine) forget(ctx context.Context, moduleSum string) (freed int64, err error) {
	e.snapshots.mu.Lock()
	defer e.snapshots.mu.Unlock()
	file := e.snapshots.file(moduleSum)
	code, err := os.ReadFile(file)
	switch {
	case err == nil:
		sum := sha256.Sum256(code)
		if freed, err = e.drop(ctx, "sha256:"+hex.EncodeToString(sum[:])); err != nil {
			return freed, err
		}
		if err := os.Remove(file); err != nil {
			return freed, fmt.Errorf("forget module %s: %w", moduleSum, err)
		}
		freed += int64(len(code))
	case !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("forget module %s: %w", moduleSum, err)
	}
	own, err := e.drop(ctx, moduleSum)
	return freed + own, err
}

func (e *engine) drop(ctx context.Context, sum string) (freed int64, err error) {
	err = e.uses.exclude(sum, func() (err error) {
		freed, err = e.cache.Drop(ctx, sum)
		return err
	})
	switch {
	case errors.Is(err, module.ErrBusy):
		return 0, sandbox.ErrInUse
	case err != nil && !errors.Is(err, sandbox.ErrInUse):
		return freed, fmt.Errorf("forget module %s: %w", sum, err)
	}
	return freed, err
}
