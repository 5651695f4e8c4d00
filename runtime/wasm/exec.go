package wasm

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"wherry.dev/wherry/runtime/sandbox"
)

// Exec implements sandbox.Execer. The program is a guest of its own beside
// the container's: it has its own memory (of the same limit) and descriptors
// and shares everything else.
func (c *container) Exec(ctx context.Context, e sandbox.ExecSpec) (sandbox.Container, error) {
	select {
	case <-c.done:
		return nil, sandbox.ErrNotRunning
	default:
	}
	found, err := c.findProgram(ctx, e.Args)
	if err != nil {
		return nil, err
	}
	spec := c.spec
	spec.Ports, spec.TTY, spec.Invoke, spec.Fuel, spec.Handler = nil, e.TTY, "", 0, nil
	spec.Args, spec.Stdin, spec.Stdout, spec.Stderr = found.args, e.Stdin, e.Stdout, e.Stderr
	spec.Window = e.Window
	if e.TTY {
		spec.Env = slices.Concat([]string{"TERM=xterm"}, spec.Env)
	}
	child := newContainer(c.sandbox, spec, found.program)
	child.tools = found.tools
	if err := c.sandbox.add(child); err != nil {
		found.program.release()
		return nil, err
	}
	if err := child.start(ctx); err != nil {
		c.sandbox.forget(child)
		return nil, err
	}
	if !c.sandbox.spawn(func() { child.endWith(c) }) {
		child.kill(exitKilled) // the sandbox is being closed
	}
	return child, nil
}

// endWith kills the program when its container ends.
func (c *container) endWith(parent *container) {
	select {
	case <-c.done:
	case <-parent.done:
		c.kill(exitKilled)
	}
}

// argv is what the guest gets as its arguments. The built-in tools are told
// beside what they cannot find out for themselves: whether they talk to a
// terminal, and what runs in the pod.
func (c *container) argv() []string {
	if !c.tools {
		return c.args()
	}
	var note strings.Builder
	if c.spec.TTY {
		note.WriteString("tty")
	}
	for i, name := range c.sandbox.processes(c) {
		fmt.Fprintf(&note, "\n%5d root     %s", i+1, strings.ReplaceAll(name, "\n", " "))
	}
	return slices.Concat([]string{c.args()[0], note.String()}, c.args())
}

// processes are the command lines of the pod, the asking one last.
func (s *podSandbox) processes(asking *container) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.containers))
	for c := range s.containers {
		if c != asking {
			names = append(names, strings.Join(c.args(), " "))
		}
	}
	slices.Sort(names)
	return append(names, strings.Join(asking.args(), " "))
}

// window is the terminal's size as the guest may ask for it; nil: it has none.
func (c *container) window() func() (columns, rows uint16) {
	switch {
	case !c.spec.TTY:
		return nil
	case c.spec.Window == nil:
		return func() (columns, rows uint16) { return 0, 0 }
	}
	return c.spec.Window
}

// streams returns what the guest reads and writes, with a terminal between it
// and the outside when it has one.
func (c *container) streams() (in io.Reader, out, errs io.Writer) {
	if !c.spec.TTY {
		return c.spec.Stdin, c.spec.Stdout, c.spec.Stderr
	}
	t := newTerminal(c.spec.Stdin, c.spec.Stdout, c.tools, func() { c.kill(exitInterrupted) })
	return t, t, t
}
