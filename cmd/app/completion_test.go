package app

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestCompletionIsComplete: a shell never offers the files of the working
// directory where a command or a flag does not take one.
func TestCompletionIsComplete(t *testing.T) {
	takesFiles := []string{"wherry bench compare", "--kubeconfig", "--config", "--authentication-config", "--encryption-key-file", "--scheduler-config",
		"--oidc-ca-file", "--audit-log-path", "--html", "--guest", "--dir"}
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" || cmd.Name() == "help" {
			return
		}
		check := func(name string, complete cobra.CompletionFunc) {
			if complete == nil {
				t.Errorf("%s %s: nothing says what may come", cmd.CommandPath(), name)
				return
			}
			offered, directive := complete(cmd, nil, "nothing begins so")
			if files := directive == cobra.ShellCompDirectiveDefault && len(offered) == 0; files != slices.Contains(takesFiles, name) {
				t.Errorf("%s %s: offers %v with directive %d", cmd.CommandPath(), name, offered, directive)
			}
		}
		if cmd.CommandPath() != "wherry kubectl" { // that is kubectl's own
			check(cmd.CommandPath(), cmd.ValidArgsFunction)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal == "" && f.Name != "help" {
				complete, _ := cmd.GetFlagCompletionFunc(f.Name)
				check("--"+f.Name, complete)
			}
		})
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newRoot(Streams{}))
}

// TestNewWords offers the starters with what they are.
func TestNewWords(t *testing.T) {
	offered, directive := newWords(nil, nil, "c")
	if directive != cobra.ShellCompDirectiveNoFileComp || len(offered) != 2 || !strings.HasPrefix(offered[1], "cron\ta job") {
		t.Errorf("offered %q, directive %d", offered, directive)
	}
	if _, directive := newWords(nil, []string{"go"}, ""); directive != cobra.ShellCompDirectiveFilterDirs {
		t.Errorf("after the kind: directive %d", directive)
	}
}
