package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero/api"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/module"
)

// snapshots makes modules that begin where their initialisation has ended, and
// keeps them as files. One is made at a time: each runs guest code for a while.
type snapshots struct {
	dir string
	mu  sync.Mutex
}

// of returns the image whose module is the snapshot of another image's.
func (s *snapshots) of(ctx context.Context, image sandbox.Image) (sandbox.Image, error) {
	if !image.Snapshot {
		return image, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	file := s.file(image.ModuleSum)
	code, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		code, err = s.make(ctx, image, file)
	}
	var invalid *module.InvalidError
	switch {
	case errors.As(err, &invalid):
		return image, &sandbox.InvalidImageError{Ref: image.Ref, Reason: invalid.Reason}
	case err != nil:
		return image, fmt.Errorf("snapshot of image %q: %w", image.Ref, err)
	}
	sum := sha256.Sum256(code)
	image.Module, image.ModuleSum = file, "sha256:"+hex.EncodeToString(sum[:])
	return image, nil
}

// file is where the snapshot of a module is.
func (s *snapshots) file(moduleSum string) string {
	return filepath.Join(s.dir, "r"+module.RewriteVersion+"-"+strings.ReplaceAll(moduleSum, ":", "-")+".wasm")
}

// make takes the snapshot and writes it whole or not at all.
func (s *snapshots) make(ctx context.Context, image sandbox.Image, file string) ([]byte, error) {
	code, err := os.ReadFile(image.Module)
	if err != nil {
		return nil, err
	}
	if code, err = module.Snapshot(ctx, code); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	temp, err := os.CreateTemp(s.dir, "tmp-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name()) // nothing is left of it after the rename
	_, err = temp.Write(code)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return nil, err
	}
	return code, os.Rename(temp.Name(), file)
}

// begin runs what comes before the guest's own entry: in an instance of a
// snapshot its resume function, in a library its initialisation, which a
// snapshot has no more.
func (p *program) begin(ctx context.Context, in api.Module, library bool) error {
	names := []string{}
	if p.snapshot {
		names = append(names, module.ResumeFunction)
	}
	if library {
		names = append(names, initFunction)
	}
	for _, name := range names {
		if f := in.ExportedFunction(name); f != nil {
			if _, err := f.Call(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
