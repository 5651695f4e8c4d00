package module

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrBusy is Drop's answer about a module that is being prepared.
var ErrBusy = errors.New("the module is being prepared")

// Drop forgets a module: from memory, for all runtimes, and from the disk, also
// what other versions of this program have made of it. It returns the bytes
// that are free now. No instance of it may be running, and nobody may be about
// to make one; who prepares it meanwhile waits.
func (c *Cache) Drop(ctx context.Context, sum string) (freed int64, err error) {
	name, err := entryName(sum)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	if c.flights[sum] != nil || c.dropping[sum] != nil {
		c.mu.Unlock()
		return 0, ErrBusy
	}
	done := make(chan struct{})
	c.dropping[sum] = done
	delete(c.prepared, sum)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.dropping, sum)
		close(done)
	}()
	errs := []error{c.Unload(ctx, sum)}
	dirs, err := filepath.Glob(filepath.Join(c.cfg.Dir, "*", filepath.Base(name)))
	errs = append(errs, err)
	for _, dir := range dirs {
		e, _ := readMeta(dir, sum) // without it there is only the directory
		if e != nil {
			for _, f := range e.Files {
				freed += f.Size
			}
		}
		c.discard(e)
		errs = append(errs, os.RemoveAll(dir))
	}
	return freed, errors.Join(errs...)
}

// prepareAfter is Prepare of a module that is being dropped. c.mu is held, and
// let go.
func (c *Cache) prepareAfter(ctx context.Context, path, sum string) error {
	dropped := c.dropping[sum]
	c.mu.Unlock()
	select {
	case <-dropped:
		return c.Prepare(ctx, path, sum)
	case <-ctx.Done():
		return fmt.Errorf("prepare module %s: %w", sum, ctx.Err())
	}
}
