package clustertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// program is the binary that serves as the wherry command: the test's own. A
// kubectl with the race detector in it says so on standard error, and takes a
// second to start; so under the detector everything but the cluster itself
// runs from a plain build.
func program(t testing.TB, args []string) string {
	t.Helper()
	if Race && !slices.Contains(args, "up") {
		path, err := plainBuild()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// plainBuild builds the command once per test process, where go test itself
// removes it: beside the test binary.
var plainBuild = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "wherry-plain")
	build := exec.Command("go", "build", "-race=false", "-o", path, "wherry.dev/wherry/cmd/wherry")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the command without the race detector: %w\n%s", err, out)
	}
	return path, nil
})
