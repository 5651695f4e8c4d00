package clustertest

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// checkLeaks fails the test when goroutines of ours outlive its clusters. It
// must be called before the cluster's own clean-up is registered.
func checkLeaks(t testing.TB) {
	before := len(ours())
	t.Cleanup(func() {
		var left []string
		for deadline := time.Now().Add(Patience); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
			if left = ours(); len(left) <= before {
				return
			}
		}
		t.Errorf("%d goroutines were left behind, for example:\n%s", len(left)-before, left[0])
	})
}

// ours returns the stacks of goroutines that run product code, tests aside.
func ours() []string {
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	var found []string
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "wherry.dev/wherry/") && !strings.Contains(stack, "testing.tRunner") &&
			!strings.Contains(stack, "testing.(*B)") {
			found = append(found, stack)
		}
	}
	return found
}
