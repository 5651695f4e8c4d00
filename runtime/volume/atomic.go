package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	dataLink    = "..data"     // points at the directory that holds the current files
	newDataLink = "..data_tmp" // becomes dataLink by rename
)

// writeAtomic makes dir show exactly the payload, in the layout that
// Kubernetes documents for mounted ConfigMaps: files live in a directory
// ..<timestamp>, ..data points at it, and every top-level name points into
// ..data. Renaming ..data switches all files at once. It reports whether
// anything had to change.
func writeAtomic(dir string, p payload) (changed bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("create volume directory: %w", err)
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read current version of volume: %w", err)
	}
	if old != "" && same(filepath.Join(dir, old), p) {
		// A crash may have come between the switch and the links.
		return false, linkNames(dir, p)
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return false, fmt.Errorf("create new version of volume: %w", err)
	}
	if err := fill(fresh, p); err != nil {
		return false, errors.Join(err, os.RemoveAll(fresh))
	}
	if err := switchTo(dir, filepath.Base(fresh)); err != nil {
		return false, errors.Join(err, os.RemoveAll(fresh))
	}
	if err := linkNames(dir, p); err != nil {
		return true, err
	}
	return true, sweep(dir, filepath.Base(fresh), p)
}

func fill(dir string, p payload) error {
	if err := os.Chmod(dir, 0o755); err != nil { // MkdirTemp gives 0700
		return fmt.Errorf("write volume: %w", err)
	}
	for name, f := range p {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
		if err := os.WriteFile(target, []byte(f.data), 0o600); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
		// Chmod apart from the creation, so that the umask has no say.
		if err := os.Chmod(target, fs.FileMode(f.mode).Perm()); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

func switchTo(dir, version string) error {
	tmp := filepath.Join(dir, newDataLink)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("switch volume: %w", err)
	}
	if err := os.Symlink(version, tmp); err != nil {
		return fmt.Errorf("switch volume: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("switch volume: %w", err)
	}
	return nil
}

// topNames returns the first path component of every file.
func topNames(p payload) map[string]bool {
	names := make(map[string]bool, len(p))
	for name := range p {
		top, _, _ := strings.Cut(name, "/")
		names[top] = true
	}
	return names
}

func linkNames(dir string, p payload) error {
	for name := range topNames(p) {
		link := filepath.Join(dir, name)
		want := filepath.Join(dataLink, name)
		if at, err := os.Readlink(link); err == nil && at == want {
			continue
		}
		if err := os.RemoveAll(link); err != nil {
			return fmt.Errorf("link volume file: %w", err)
		}
		if err := os.Symlink(want, link); err != nil {
			return fmt.Errorf("link volume file: %w", err)
		}
	}
	return nil
}

// sweep removes names and versions that are no longer part of the volume.
func sweep(dir, version string, p payload) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep volume: %w", err)
	}
	names := topNames(p)
	for _, e := range entries {
		if e.Name() == version || e.Name() == dataLink || names[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("sweep volume: %w", err)
		}
	}
	return nil
}

// same reports whether dir holds exactly the payload.
func same(dir string, p payload) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		want, ok := p[filepath.ToSlash(rel)]
		if !ok {
			return fs.ErrNotExist
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != fs.FileMode(want.mode).Perm() {
			return fs.ErrInvalid
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if string(data) != want.data {
			return fs.ErrInvalid
		}
		seen++
		return nil
	})
	return err == nil && seen == len(p)
}
