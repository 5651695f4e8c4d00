package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// packer is a profile beside the default one: it fills nodes up, by a resource
// of the test's own, which does not depend on the machine.
const packer = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  plugins:
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit}]
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: example.com/slot, weight: 1}]}}
`

// TestSchedulingScripts runs what needs a scheduler of its own: profiles by a
// configuration file, RuntimeClasses, preemption.
func TestSchedulingScripts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scheduler.yaml")
	if err := os.WriteFile(file, []byte(packer), 0o600); err != nil {
		t.Fatal(err)
	}
	c := clustertest.New(t, clustertest.Nodes(2), func(c *app.Config) { c.SchedulerConfig = file })
	c.Push("hello:v1", samples.HelloModule)
	runScripts(t, c, "testdata/scheduling", "scheduling", builtinKubectl(t))
}
