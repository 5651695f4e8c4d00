package dev

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed starters
var starters embed.FS

// kinds are the starters that New knows, with what they are.
var kinds = map[string]string{
	"go":   "an HTTP service in Go",
	"c":    "an HTTP service in C",
	"cron": "a job in Go that runs every minute",
}

// Kinds lists the starters, each with a line about it.
func Kinds() []string {
	var lines []string
	for kind, what := range kinds {
		lines = append(lines, fmt.Sprintf("%-5s %s", kind, what))
	}
	slices.Sort(lines)
	return lines
}

// New writes a starter into a directory, which is made and must be empty. It
// returns the files, relative to it.
func New(kind, dir string) ([]string, error) {
	if _, ok := kinds[kind]; !ok {
		return nil, fmt.Errorf("no starter is called %q; there are:\n  %s", kind, strings.Join(Kinds(), "\n  "))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory for the starter (choose another): %w", err)
	}
	if there, err := os.ReadDir(dir); err != nil {
		return nil, err
	} else if len(there) > 0 {
		return nil, fmt.Errorf("%s is not empty: choose another directory", dir)
	}
	name := struct{ Name string }{imageName(filepath.Base(dir))}
	entries, err := starters.ReadDir(path.Join("starters", kind))
	if err != nil {
		return nil, err
	}
	var written []string
	write := func(from, to string) error {
		made, err := template.ParseFS(starters, from)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := made.Execute(&text, name); err != nil {
			return err
		}
		written = append(written, to)
		return os.WriteFile(filepath.Join(dir, to), text.Bytes(), 0o644)
	}
	for _, entry := range entries {
		if err := write(path.Join("starters", kind, entry.Name()), strings.TrimSuffix(entry.Name(), ".tmpl")); err != nil {
			return written, err
		}
	}
	if _, err := fs.Stat(starters, path.Join("starters", kind, "manifest.yaml.tmpl")); errors.Is(err, fs.ErrNotExist) {
		if err := write("starters/web.yaml.tmpl", "manifest.yaml"); err != nil {
			return written, err
		}
	}
	slices.Sort(written)
	return written, nil
}
