package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
)

// talker says something, waits for a file, says much more and fails. Started
// again it says one line and stays.
const talker = `
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: talker
    image: wherry.dev/tools
    volumeMounts: [{name: data, mountPath: /data}]
    command:
    - sh
    - -c
    - |
      if test -e /data/failed; then echo again; while :; do sleep 1; done; fi
      echo ready
      until test -e /data/go; do sleep 0.01; done
      i=0
      while test $i -lt %d; do i=$((i+1)); echo "line $i of the first run, long enough to fill a file soon"; done
      touch /data/failed
      exit 1
`

// TestLogsAcrossRotations: who follows a log that is rotated many times
// meanwhile gets each line once, and --previous has all files of the run before.
func TestLogsAcrossRotations(t *testing.T) {
	const lines, size = 500, 4 << 10
	c := clustertest.New(t, func(cfg *app.Config) {
		cfg.LogMaxSize.Quantity, cfg.LogMaxFiles = *resource.NewQuantity(size, resource.BinarySI), 100
	})
	if out, err := c.TryKubectl(fmt.Sprintf(talker, lines), "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{"ready"}
	for i := range lines {
		want = append(want, fmt.Sprintf("line %d of the first run, long enough to fill a file soon", i+1))
	}
	c.Kubectl("wait", "--for=condition=Ready", "pod/talker", "--timeout=180s")
	follower := clustertest.Command(t, "--data-dir", c.DataDir, "kubectl", "logs", "-f", "talker")
	shown := newScreen()
	follower.Stdout, follower.Stderr = shown, shown
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	shown.await(t.Context(), t, "ready\n")
	c.Kubectl("exec", "talker", "--", "touch", "/data/go")
	if err := follower.Wait(); err != nil {
		t.Errorf("kubectl logs -f: %v", err)
	}
	compareLines(t, "followed", shown.all(), want)
	c.Kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/talker", "--timeout=180s")
	compareLines(t, "previous", c.Kubectl("logs", "talker", "--previous"), want)
	compareLines(t, "the end of the previous", c.Kubectl("logs", "talker", "--previous", "--tail=100"), want[len(want)-100:])
}

func compareLines(t *testing.T, what, got string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if !slices.Equal(lines, want) {
		t.Errorf("%s: %d lines, want %d; %s", what, len(lines), len(want), firstDifference(strings.Join(want, "\n"), strings.Join(lines, "\n")))
	}
}
