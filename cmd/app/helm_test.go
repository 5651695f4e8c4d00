package app_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// TestHelm runs the scripts of testdata/helm with Helm 4. It is built from its
// own module, beside the scripts, so that what Helm needs is not what Wherry
// needs.
func TestHelm(t *testing.T) {
	bin := builtinKubectl(t)
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "helm"), "helm.sh/helm/v4/cmd/helm")
	build.Dir = filepath.Join("testdata", "helm", "tool")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build Helm; its modules must be on this machine or reachable: %v\n%s", err, out)
	}
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	c.Push("hello:v2", append(append([]byte{}, samples.HelloModule...), 0, 3, 1, 'v', '2'))
	c.Push("said:v1", printerModule("one\n", 0))
	runScripts(t, c, "testdata/helm", "helm", bin)
}
