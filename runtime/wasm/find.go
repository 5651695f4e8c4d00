package wasm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/tools"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// found is a program that Exec can run.
type found struct {
	program *program
	args    []string
	tools   bool // it is the guest of package tools
}

const (
	codeNotFound      = 127
	codeNotExecutable = 126
	// defaultPath is where programs are looked for when the container has no PATH.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// maxExecModule bounds a module that is run from a container's files.
	maxExecModule = 256 << 20
)

// findProgram finds what args[0] means in the container: its files first, then
// the image's own program, then the tools.
func (c *container) findProgram(ctx context.Context, args []string) (found, error) {
	if len(args) == 0 || args[0] == "" {
		return found{}, &sandbox.ExecError{Code: codeNotFound, Text: "no command given"}
	}
	name := args[0]
	for _, file := range c.candidates(name) {
		f, err := wasi.OpenFile(c.mounts, file)
		if err != nil {
			continue
		}
		defer f.Close()
		return c.fromFile(ctx, f, file, args)
	}
	if c.isOwn(name) {
		p, err := c.sandbox.runtime.load(ctx, c.spec.Image)
		return found{program: p, args: args}, err
	}
	if tools.Has(name) {
		return c.tool(ctx, args)
	}
	if strings.Contains(name, "/") {
		return found{}, &sandbox.ExecError{Name: name, Code: codeNotFound, Text: "stat " + c.absolute(name) + ": no such file or directory"}
	}
	return found{}, &sandbox.ExecError{Name: name, Code: codeNotFound, Text: "executable file not found in $PATH"}
}

// candidates are the paths that a name may mean. A name without a slash may
// leave out ".wasm", and the root counts as part of PATH: that is where images
// of one module have it.
func (c *container) candidates(name string) []string {
	if strings.Contains(name, "/") {
		return []string{c.absolute(name)}
	}
	dirs := defaultPath
	for _, kv := range c.spec.Env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = value
		}
	}
	var files []string
	for _, dir := range append(strings.Split(dirs, ":"), "/") {
		at := path.Join(c.absolute(dir), name)
		files = append(files, at, at+".wasm")
	}
	return files
}

func (c *container) absolute(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join("/", c.spec.WorkingDir, name)
}

// isOwn reports whether a name means the program of the container's image.
func (c *container) isOwn(name string) bool {
	own := slices.Clone(c.spec.Image.Entrypoint)
	if len(own) == 0 {
		own = c.spec.Image.Cmd
	}
	if len(own) > 0 {
		return name == own[0] || name == path.Base(own[0])
	}
	return name == c.args()[0] && !tools.Has(name)
}

// fromFile runs a file of the container: a module, or a script that names its
// interpreter in the first line.
func (c *container) fromFile(ctx context.Context, f *os.File, at string, args []string) (found, error) {
	refused := func(text string) (found, error) {
		return found{}, &sandbox.ExecError{Name: args[0], Code: codeNotExecutable, Text: text}
	}
	info, err := f.Stat()
	if err != nil {
		return found{}, fmt.Errorf("exec %s: %w", at, err)
	}
	if info.IsDir() {
		return refused("permission denied: it is a directory")
	}
	reader := bufio.NewReader(io.LimitReader(f, maxExecModule))
	if head, _ := reader.Peek(2); string(head) == "#!" {
		line, _ := reader.ReadString('\n')
		interpreter := strings.Fields(strings.TrimPrefix(line, "#!"))
		if len(interpreter) == 0 || !tools.Has(interpreter[0]) {
			return refused("exec format error: the script's interpreter is not one of the built-in tools")
		}
		return c.tool(ctx, slices.Concat(interpreter, []string{at}, args[1:]))
	}
	if head, _ := reader.Peek(4); string(head) != "\x00asm" {
		return refused("exec format error: the file is not a WebAssembly module")
	}
	p, err := c.sandbox.runtime.engine.loadFrom(ctx, at, reader)
	if invalid := (*sandbox.InvalidImageError)(nil); errors.As(err, &invalid) {
		return refused("exec format error: " + invalid.Reason)
	}
	return found{program: p, args: args}, err
}

func (c *container) tool(ctx context.Context, args []string) (found, error) {
	p, err := c.sandbox.runtime.engine.loadFrom(ctx, "the built-in tools", tools.Open())
	return found{program: p, args: args, tools: true}, err
}

// loadFrom prepares and loads a module that is no image. It is copied first:
// whoever can write the file could change it between its check and its use.
func (e *engine) loadFrom(ctx context.Context, name string, module io.Reader) (*program, error) {
	f, err := os.CreateTemp(e.dir, "exec-")
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", name, err)
	}
	defer os.Remove(f.Name())
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), module)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("copy %s: %w", name, err)
	}
	image := sandbox.Image{Ref: name, Module: f.Name(), ModuleSum: "sha256:" + hex.EncodeToString(sum.Sum(nil))}
	for {
		p, err := e.load(ctx, image)
		// Callers with one module share one preparation, which reads the copy of
		// the first. Who gives up takes it away, and the others begin anew.
		if !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			return p, err
		}
		if _, mine := os.Stat(f.Name()); mine != nil {
			return nil, err
		}
	}
}
