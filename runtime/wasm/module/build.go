package module

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
)

// build makes the cache entry of the module in path and returns it.
func (c *Cache) build(ctx context.Context, path, sum string) (*entry, error) {
	began := time.Now()
	wasm, err := readModule(path)
	if err != nil {
		return nil, err
	}
	if digest, ok := strings.CutPrefix(sum, "sha256:"); ok {
		if got := sha256.Sum256(wasm); hex.EncodeToString(got[:]) != digest {
			return nil, fmt.Errorf("module %s is not the one of digest %s; pull the image again", path, sum)
		}
	}
	c.progress(sum, PhaseRewrite, began)
	out, err := Rewrite(wasm)
	if err != nil {
		return nil, err
	}
	if err := CheckImports(out.Info, c.cfg.HostImports); err != nil {
		return nil, err
	}
	// Everything is written into a temporary directory first, on the same file
	// system, so that renames suffice.
	tmp, err := os.MkdirTemp(c.cfg.Dir, tempPrefix)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if !c.cfg.Interpret { // the interpreter keeps nothing on disk
		if err := c.compile(ctx, out.Wasm, sum, filepath.Join(tmp, codeDir), began); err != nil {
			return nil, err
		}
	}
	c.progress(sum, PhaseStore, began)
	e, err := c.store(tmp, sum, out)
	if err != nil {
		return nil, fmt.Errorf("store the compiled module: %w", err)
	}
	c.progress(sum, PhaseDone, began)
	c.cfg.Log.Info("module compiled", "sum", sum, "bytes", len(wasm), "imageBytes", len(out.Image), "took", time.Since(began))
	return e, nil
}

// readModule reads a file that is no larger than a module may be.
func readModule(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxModule {
		return nil, invalid("the module has %d bytes, more than the %d that are supported; strip its debug information", info.Size(), maxModule)
	}
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	return wasm, nil
}

// compile runs wazero's compiler with a file cache of its own in dir, so that
// the one file that appears there is this module's.
func (c *Cache) compile(ctx context.Context, wasm []byte, sum, dir string, began time.Time) (err error) {
	code, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig().WithCompilationCache(code))
	defer func() {
		err = errors.Join(err, rt.Close(context.WithoutCancel(ctx)), code.Close(context.WithoutCancel(ctx)))
	}()
	stop := c.tick(sum, PhaseCompile, began)
	_, err = rt.CompileModule(experimental.WithCompilationWorkers(ctx, c.cfg.CompileWorkers), wasm)
	stop()
	var onDisk *fs.PathError
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &onDisk):
		return err
	}
	return invalid("the module is not valid: %v", err)
}

// tick reports progress at once and every second until stop is called.
func (c *Cache) tick(sum, phase string, began time.Time) (stop func()) {
	c.progress(sum, phase, began)
	if c.cfg.OnCompile == nil {
		return func() {}
	}
	ticker, quit, done := time.NewTicker(time.Second), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ticker.C:
				c.progress(sum, phase, began)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(quit)
		<-done
	}
}

func (c *Cache) progress(sum, phase string, began time.Time) {
	if c.cfg.OnCompile != nil {
		c.cfg.OnCompile(sum, phase, time.Since(began))
	}
}

// store moves compiled code to its place and then the entry, whose directory
// is the commit.
func (c *Cache) store(tmp, sum string, out *Rewritten) (*entry, error) {
	name, err := entryName(sum)
	if err != nil {
		return nil, err
	}
	e := &entry{Sum: sum, Info: out.Info, ImageOffset: out.ImageOffset, Files: map[string]fileSum{}, Wasm: filepath.Join(name, entryWasm)}
	if err := c.storeCode(e, tmp); err != nil {
		return nil, err
	}
	dir := filepath.Join(tmp, "entry")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	put := func(file string, b []byte) error {
		e.Files[filepath.Join(name, file)] = fileSum{Size: int64(len(b)), CRC: checksum(b)}
		return writeSynced(filepath.Join(dir, file), b)
	}
	if err := put(entryWasm, out.Wasm); err != nil {
		return nil, err
	}
	if out.Image != nil {
		e.Image = filepath.Join(name, entryImage)
		if err := put(entryImage, out.Image); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	raw = append(fmt.Appendf(nil, "%08x\n", checksum(raw)), raw...)
	if err := writeSynced(filepath.Join(dir, entryMeta), raw); err != nil {
		return nil, err
	}
	final := filepath.Join(c.cfg.Dir, name)
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(final); err != nil {
		return nil, err
	}
	if err := errors.Join(syncDir(dir), os.Rename(dir, final), syncDir(filepath.Dir(final))); err != nil {
		return nil, err
	}
	return e, nil
}

// storeCode moves what wazero has written below tmp into the directory that all
// runtimes read. The interpreter writes nothing.
func (c *Cache) storeCode(e *entry, tmp string) error {
	if c.cfg.Interpret {
		return nil
	}
	from := filepath.Join(tmp, codeDir)
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(tmp, path)
		if err != nil {
			return err
		}
		if e.Files[rel], err = sumFile(path); err != nil {
			return err
		}
		to := filepath.Join(c.cfg.Dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return errors.Join(os.Rename(path, to), syncDir(filepath.Dir(to)))
	})
}
