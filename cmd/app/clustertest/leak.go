package clustertest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// belongs is the label of goroutines that a cluster, or its test, has started.
// They hand it on to those that they start, so that tests of clusters can run
// beside each other.
const belongs = "cluster"

// label marks the goroutine that calls it, and what it starts from now on.
func label(name string) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(belongs, name)))
}

// checkLeaks fails the test when goroutines of ours with the name as their
// label outlive its cluster. It must be called before the cluster's own
// clean-up is registered.
func checkLeaks(t testing.TB, name string) {
	t.Cleanup(func() {
		var left int
		var example string
		for deadline := time.Now().Add(Patience); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
			if left, example = ours(name); left == 0 {
				return
			}
		}
		t.Errorf("%d goroutines were left behind, for example:\n%s", left, example)
	})
}

// ours counts the goroutines with a label that run product code, tests aside,
// and returns the stack of one.
func ours(name string) (n int, example string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return 1, err.Error()
	}
	_, stacks, _ := strings.Cut(profile.String(), "\n") // the first line is the total
	mark := fmt.Sprintf("%q:%q", belongs, name)
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if !strings.Contains(stack, mark) || !strings.Contains(stack, "wherry.dev/wherry/") ||
			strings.Contains(stack, "testing.tRunner") || strings.Contains(stack, "testing.(*B)") {
			continue
		}
		alike := 0
		_, _ = fmt.Sscanf(stack, "%d @", &alike)
		n, example = n+alike, stack
	}
	return n, example
}
