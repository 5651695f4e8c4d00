package app_test

import (
	"context"
	"strings"
	"testing"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestTopInTerminal: the picture is drawn in place on the second screen, and
// the last one stays on the first.
func TestTopInTerminal(t *testing.T) {
	c := clustertest.New(t)
	cmd := c.Command("top", "--every", "100ms")
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
	terminal := startInTerminal(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	const drawn = "\x1b[H\x1b[KNODE"
	terminal.shown.awaitCount(ctx, t, drawn, 3)
	if _, err := terminal.master.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("top ended with %v", err)
	}
	<-terminal.drawn
	shown := terminal.shown.String()
	first, last, ok := strings.Cut(shown, "\x1b[?7h\x1b[?25h\x1b[?1049l")
	if !ok || !strings.HasPrefix(first, "\x1b[?1049h\x1b[?25l\x1b[?7l"+drawn) {
		t.Fatalf("the second screen was not entered or left: %q", shown)
	}
	if !strings.HasPrefix(last, "NODE ") || !strings.Contains(last, "node-1 ") || !strings.Contains(last, "NAMESPACE ") {
		t.Errorf("what stays is %q", last)
	}
	if strings.Contains(shown, "\x1b[2J") {
		t.Error("the screen is cleared")
	}
}
