package wasm

import (
	"io"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

func TestTerminalEdits(t *testing.T) {
	for _, c := range []struct{ name, typed, read, shown string }{
		{"line", "ab\r", "ab\n", "ab\r\n"},
		{"erase", "abc\x7f\x08d\r", "ad\n", "abc\b \b\b \bd\r\n"},
		{"erase a rune", "ä\x7fb\r", "b\n", "ä\b \bb\r\n"},
		{"erase nothing", "\x7fa\r", "a\n", "a\r\n"},
		{"erase word", "ab cd \x17e\r", "ab e\n", "ab cd \b \b\b \b\b \be\r\n"},
		{"erase line", "ab\x15c\r", "c\n", "ab\b \b\b \bc\r\n"},
		{"control", "a\x01\r", "a\x01\n", "a^A\r\n"},
		{"end of a line", "ab\x04\r", "ab\n", "ab\r\n"},
		{"end", "a\rb\r\x04never", "a\nb\n", "a\r\nb\r\nnever"},
		{"lost", "a\rb", "a\nb", "a\r\nb"},
	} {
		var shown strings.Builder
		term := newTerminal(strings.NewReader(c.typed), &shown, false, func() { t.Error("interrupted") })
		read, err := io.ReadAll(term)
		if err != nil || string(read) != c.read || shown.String() != c.shown {
			t.Errorf("%s: read %q, shown %q, %v; want %q, %q", c.name, read, shown.String(), err, c.read, c.shown)
		}
	}
}

// TestTerminalShell sits at the shell: lines are answered, ^C calls off what
// runs and not the shell, ^D ends input.
func TestTerminalShell(t *testing.T) {
	c, _ := servant(t)
	keys, typed := io.Pipe()
	out, ended := &sandboxtest.Output{}, make(chan int32, 1)
	go func() {
		code, err := sandbox.Run(t.Context(), c, sandbox.ExecSpec{Args: []string{"sh"}, Stdin: keys, Stdout: out, TTY: true})
		if err != nil {
			t.Error(err)
		}
		ended <- code
	}()
	shown := ""
	for _, step := range []struct{ keys, shows string }{
		{"", "/data # "},
		{"echo a\x7fhi $TERM\r", "echo a\b \bhi $TERM\r\nhi xterm\r\n/data # "},
		{"echo started; sleep 100000\r", "echo started; sleep 100000\r\nstarted\r\n"},
		{"typed ahead\r", "typed ahead\r\n"},
		{"\x03", "^C\r\n/data # "},
		{"cat\r", "cat\r\n"},
		{"x y\r", "x y\r\nx y\r\n"},
		{"\x04echo next\r", "echo next\r\n/data # next\r\n/data # "},
		{"half a line\x03", "half a line^C\r\n/data # "},
		{"cd /\r", "cd /\r\n/ # "},
		{"for i in 1 2\r", "for i in 1 2\r\n> "},
		{"do echo $i; done\r", "do echo $i; done\r\n1\r\n2\r\n/ # "},
	} {
		if _, err := io.WriteString(typed, step.keys); err != nil {
			t.Fatal(err)
		}
		shown += step.shows
		out.Await(t, shown)
	}
	if _, err := io.WriteString(typed, "exit 4\r"); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 4 {
		t.Errorf("code %d; %q", code, out.String())
	}
}

// TestTerminalInterrupt: a guest that knows nothing of ^C is ended by it.
func TestTerminalInterrupt(t *testing.T) {
	h := shared.harness
	keys, typed := io.Pipe()
	c, out := h.Start(t, h.Pod(t, nil), sandbox.ContainerSpec{
		Image: h.Guests.Tool(t), Args: []string{"tool", "say:up", "echo"}, Stdin: keys, TTY: true,
	})
	out.Await(t, "up\r\n")
	if _, err := io.WriteString(typed, "one\r\x03"); err != nil {
		t.Fatal(err)
	}
	if exit := sandboxtest.Wait(t, c); exit.Code != exitInterrupted {
		t.Errorf("%+v; %q", exit, out.String())
	}
}
