package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// TestOperator runs the tests of an operator that is written with
// controller-runtime: a custom resource, webhooks with certificates, two
// managers of which one leads, finalizers. It is a module of its own, so that
// what it needs is not what Wherry needs.
func TestOperator(t *testing.T) {
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	command := exec.Command("go", "test", "-count=1", "-timeout=10m", ".")
	command.Dir = filepath.Join("testdata", "operator")
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v (its modules must be on this machine or reachable)\n%s", err, out)
	}
}
