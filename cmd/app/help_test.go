package app

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp: every command says in a line what it does and shows how it is used,
// by lines that begin with the command itself.
func TestHelp(t *testing.T) {
	seen := 0
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		seen++
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its short help is %q", cmd.CommandPath(), cmd.Short)
		}
		name := cmd.CommandPath()
		if !strings.Contains(cmd.Example, "  wherry ") || cmd.HasParent() && !strings.Contains(cmd.Example, cmd.Name()) {
			t.Errorf("%s: its help has no example of it:\n%s", name, cmd.Example)
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  wherry ") {
				t.Errorf("%s: an example does not begin with the command: %q", name, line)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	root := newRoot(Streams{})
	look(root)
	if seen < 20 {
		t.Errorf("only %d commands seen", seen)
	}
	if !strings.Contains(root.Long, "Exit codes: ") {
		t.Error("the exit codes are not told")
	}
}
