package sandboxtest

import (
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
)

// Run checks everything that package sandbox promises.
func Run(t *testing.T, h *Harness) {
	t.Run("exit", func(t *testing.T) { testExits(t, h) })
	t.Run("process", func(t *testing.T) { testProcess(t, h) })
	t.Run("files", func(t *testing.T) { testFiles(t, h) })
	t.Run("later", func(t *testing.T) { testLater(t, h) })
	t.Run("quota", func(t *testing.T) { testQuota(t, h) })
	t.Run("escape", func(t *testing.T) { testEscape(t, h) })
	t.Run("network", func(t *testing.T) { testNetwork(t, h) })
	t.Run("stop", func(t *testing.T) { testStop(t, h) })
	t.Run("limits", func(t *testing.T) { testLimits(t, h) })
}

// RunBrief checks what does not depend on speed: for slow ways of execution.
func RunBrief(t *testing.T, h *Harness) {
	t.Run("exit", func(t *testing.T) { testExits(t, h) })
	t.Run("process", func(t *testing.T) { testProcess(t, h) })
	t.Run("files", func(t *testing.T) { testFiles(t, h) })
}

func testExits(t *testing.T, h *Harness) {
	for _, c := range []struct {
		name, verb string
		code       int32
		reason     string
		output     string
	}{
		{"zero", "exit:0", 0, "Completed", ""},
		{"return", "say:bye", 0, "Completed", "bye\n"},
		{"seven", "exit:7", 7, "Error", ""},
		{"last", "exit:255", 255, "Error", ""},
		{"panic", "panic:oh no", 2, "Error", "panic: oh no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			exit, out := h.Tool(t, sandbox.ContainerSpec{}, c.verb)
			if exit.Code != c.code || exit.Reason != c.reason {
				t.Errorf("exit %+v, want code %d, reason %s", exit, c.code, c.reason)
			}
			if !strings.Contains(out, c.output) {
				t.Errorf("output %q lacks %q", out, c.output)
			}
			if exit.Started.IsZero() || exit.Ended.Before(exit.Started) {
				t.Errorf("times %v, %v", exit.Started, exit.Ended)
			}
		})
	}
}

func testProcess(t *testing.T, h *Harness) {
	t.Run("arguments and environment", func(t *testing.T) {
		_, out := h.Tool(t, sandbox.ContainerSpec{
			Env: []string{"A=first", "B=b=b", "A=last", "LISTEN_PID=1", "E="}, WorkingDir: "/",
			Ports: []sandbox.Port{{Name: "http", Number: 8080}, {Number: 9090}},
		}, "args", "env", "pwd")
		for _, want := range []string{
			"tool args env pwd\n", "\nA=last\n", "\nB=b=b\n", "\nE=\n", "PWD=/\n",
			"LISTEN_FDS=2\n", "LISTEN_FDNAMES=http:9090\n", "HOSTNAME=pod-host\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q lacks %q", out, want)
			}
		}
		for _, banned := range []string{"first", "LISTEN_PID"} {
			if strings.Contains(out, banned) {
				t.Errorf("%q has %q", out, banned)
			}
		}
	})
	t.Run("streams", func(t *testing.T) {
		stdout, stderr := &Output{}, &Output{}
		h.Tool(t, sandbox.ContainerSpec{
			Stdin: strings.NewReader("one\ntwo\n"), Stdout: stdout, Stderr: stderr,
		}, "echo", "complain:too bad")
		if got := stdout.String(); got != "heard one\nheard two\n" {
			t.Errorf("stdout %q", got)
		}
		if got := stderr.String(); got != "too bad\n" {
			t.Errorf("stderr %q", got)
		}
		if stdout.writes != 2 {
			t.Errorf("%d writes for two lines", stdout.writes)
		}
	})
	t.Run("no input is its end", func(t *testing.T) {
		if exit, out := h.Tool(t, sandbox.ContainerSpec{}, "echo"); exit.Code != 0 || out != "" {
			t.Errorf("%+v %q", exit, out)
		}
	})
	t.Run("sleep", func(t *testing.T) {
		if exit, out := h.Tool(t, sandbox.ContainerSpec{}, "sleep:2ms", "say:awake"); out != "awake\n" {
			t.Errorf("%+v %q", exit, out)
		}
	})
	t.Run("bad environment", func(t *testing.T) {
		_, err := h.Pod(t, nil).Start(t.Context(), sandbox.ContainerSpec{
			Name: "x", Image: h.Guests.Tool(t), Env: []string{"NOVALUE"},
		})
		if err == nil || !strings.Contains(err.Error(), "NOVALUE") {
			t.Errorf("error %v", err)
		}
	})
}
