package app_test

import (
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// until repeats a command until what it prints matches a pattern: for what
// kubectl itself cannot wait for. "! until" waits for an output that does not
// match.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until pattern command [argument...]")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out string
	for deadline := time.Now().Add(clustertest.Patience); time.Now().Before(deadline); {
		// A failure may be the answer that is waited for, too.
		_ = ts.Exec(args[1], args[2:]...)
		out = ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if pattern.MatchString(out) != neg {
			return
		}
	}
	ts.Fatalf("never saw %q; the last output was:\n%s", args[0], out)
}
