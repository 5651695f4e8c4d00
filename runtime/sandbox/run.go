package sandbox

import (
	"context"
	"io"
)

// Run runs a command in a container to its end and returns its exit code. When
// ctx ends the command is killed. What the runtime has to say about its end
// (a trap) goes to its error output.
func Run(ctx context.Context, c Container, e ExecSpec) (code int32, err error) {
	execer, ok := c.(Execer)
	if !ok {
		return 0, &ExecError{Name: e.Args[0], Code: 126, Text: "the container's runtime cannot run further commands"}
	}
	run, err := execer.Exec(ctx, e)
	if err != nil {
		return 0, err
	}
	select {
	case <-run.Done():
	case <-ctx.Done():
		if err := run.Stop(context.WithoutCancel(ctx), 0); err != nil {
			return 0, err
		}
		return run.Exit().Code, ctx.Err()
	}
	exit := run.Exit()
	if exit.Message != "" && e.Stderr != nil {
		_, _ = io.WriteString(e.Stderr, exit.Message+"\n")
	}
	return exit.Code, nil
}
