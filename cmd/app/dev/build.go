package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// BuildError is a build that failed: the user's business, not ours.
type BuildError struct {
	Command string
	Output  string // what the command printed
	Err     error
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("%s: %v\n%s", e.Command, e.Err, strings.TrimRight(e.Output, "\n"))
}

// Unwrap returns how the command ended.
func (e *BuildError) Unwrap() error { return e.Err }

// Compile builds the project and returns the module. A build that fails is a
// *BuildError.
func (p *Project) Compile(ctx context.Context) ([]byte, error) {
	cmd := p.command(ctx)
	if cmd == nil {
		return os.ReadFile(p.Output)
	}
	if err := os.MkdirAll(filepath.Dir(p.Output), 0o755); err != nil {
		return nil, fmt.Errorf("make a place for the module: %w", err)
	}
	// The tools that it started may hold its output open.
	cmd.Dir, cmd.WaitDelay = p.Dir, time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &BuildError{Command: p.Command(), Output: output.String(), Err: err}
	}
	module, err := os.ReadFile(p.Output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &BuildError{Command: p.Command(), Err: errors.New("it did not write " + p.Output)}
	}
	return module, err
}

// Command is the build as a person would type it; empty: nothing is built.
func (p *Project) Command() string {
	if p.Go {
		return "GOOS=wasip1 GOARCH=wasm go build -o " + p.Output + " ."
	}
	return p.Build
}

func (p *Project) command(ctx context.Context) *exec.Cmd {
	switch {
	case p.Go:
		cmd := exec.CommandContext(ctx, "go", "build", "-o", p.Output, ".")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		return cmd
	case p.Build == "":
		return nil
	case runtime.GOOS == "windows":
		return exec.CommandContext(ctx, "cmd", "/c", p.Build)
	}
	return exec.CommandContext(ctx, "/bin/sh", "-c", p.Build)
}
