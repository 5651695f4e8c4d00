package wasm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/module"
)

// Exit codes of guests that did not choose one: 128 + the signal that would
// have ended a process in the same way.
const (
	exitInterrupted = 130 // SIGINT
	exitTrapped     = 134 // SIGABRT
	exitKilled      = 137 // SIGKILL
	exitTold        = 143 // SIGTERM
)

// Reasons of ContainerStateTerminated.
const (
	reasonCompleted = "Completed"
	reasonError     = "Error"
	reasonOOM       = "OOMKilled"
)

// maxStackLines bounds how much of a trap's stack goes into a pod's status.
const maxStackLines = 12

// isExit reports whether an error is the guest's own or a forced end rather
// than a fault of the host.
func isExit(err error) bool {
	var exit *sys.ExitError
	return errors.As(err, &exit) || isTrap(err)
}

// isTrap recognises wazero's wrapping of a fault inside a guest.
func isTrap(err error) bool { return strings.Contains(err.Error(), "wasm stack trace:") }

// verdict says how the guest ended. What was forced upon it counts more than
// how it took that.
func (c *container) verdict(err error) sandbox.Exit {
	if code := c.forced.Load(); code != 0 {
		e := sandbox.Exit{Code: code, Reason: reasonError}
		if code == exitKilled {
			e.Message = "killed"
		}
		return e
	}
	if c.meter.Spent() {
		return sandbox.Exit{Code: exitKilled, Reason: reasonError, Message: fmt.Sprintf("the guest has used its fuel of %d units", c.spec.Fuel)}
	}
	var exit *sys.ExitError
	switch {
	case err == nil:
		return sandbox.Exit{Reason: reasonCompleted}
	case errors.As(err, &exit):
		code := int32(exit.ExitCode() & 0xff)
		if exit.ExitCode() == 0 {
			return sandbox.Exit{Reason: reasonCompleted}
		}
		if code == 0 {
			code = 1 // a failure must not look like success for lack of bits
		}
		if c.refused.Load() {
			return c.outOfMemory("")
		}
		return sandbox.Exit{Code: code, Reason: reasonError}
	}
	var deep *module.StackLimitError
	if errors.As(err, &deep) {
		return sandbox.Exit{Code: exitKilled, Reason: reasonOOM, Message: deep.Error()}
	}
	message := shorten(err.Error())
	if c.refused.Load() {
		return c.outOfMemory(message)
	}
	return sandbox.Exit{Code: exitTrapped, Reason: reasonError, Message: message}
}

func (c *container) outOfMemory(trap string) sandbox.Exit {
	message := "the guest asked for more memory than its limit and then died"
	if trap != "" {
		message += ": " + trap
	}
	return sandbox.Exit{Code: exitKilled, Reason: reasonOOM, Message: message}
}

func shorten(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > maxStackLines {
		lines = append(lines[:maxStackLines], "…")
	}
	return strings.Join(lines, "\n")
}

// exitOf is the exit code of a guest that has ended by itself: 0 without an
// error, what it passed to proc_exit, or that of a trap.
func exitOf(err error) int32 {
	var exit *sys.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int32(exit.ExitCode())
	}
	return exitTrapped
}
