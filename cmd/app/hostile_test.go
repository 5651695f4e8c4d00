package app_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// TestHostilePods runs one pod of each kind of harm at once, beside a Deployment
// that serves: each ends, or goes on, as it should, the others do not notice,
// and logs and volumes stay within their bounds.
func TestHostilePods(t *testing.T) {
	c, service := served(t)
	module, err := os.ReadFile("../../runtime/sandbox/sandboxtest/testdata/hostile/hostile.wasm")
	if err != nil {
		t.Fatal(err)
	}
	c.Push("hostile:v1", module)
	ends := map[string]string{ // phase and reason of the container; "": it runs on
		"spin": "", "flood": "", "swap": "", "recurse": "Failed OOMKilled", "trap": "Failed Error", "grow": "Succeeded Completed",
		"die": "Failed OOMKilled", "listen": "Succeeded Completed", "sockets": "Succeeded Completed", "datagrams": "Succeeded Completed",
		"files": "Succeeded Completed", "inodes": "Succeeded Completed", "disk": "Succeeded Completed", "escape": "Succeeded Completed",
	}
	var manifest strings.Builder
	for what := range ends {
		fmt.Fprintf(&manifest, `---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {is: hostile}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 4Mi}}]
  containers:
  - name: hostile
    image: hostile:v1
    args: [%[1]s, /data]
    resources: {limits: {memory: 16Mi, cpu: 300m}}
    volumeMounts: [{name: v, mountPath: /data}]
`, what)
	}
	c.Apply(manifest.String())
	eventually(t, c, api.Pods, "is=hostile", "every hostile pod has come to its end, or runs", func(pods map[string]api.Object) bool {
		for what, want := range ends {
			pod, ok := pods[what].(*corev1.Pod)
			if !ok || len(pod.Status.ContainerStatuses) == 0 {
				return false
			}
			state := pod.Status.ContainerStatuses[0].State
			switch {
			case want == "" && state.Running == nil:
				return false
			case want != "" && (state.Terminated == nil || string(pod.Status.Phase)+" "+state.Terminated.Reason != want):
				return false
			}
		}
		return true
	})
	answersFrom(t, clusterURL(service), 3)
	web, err := c.Clientset().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range web.Items {
		if s := pod.Status.ContainerStatuses[0]; s.RestartCount != 0 || !s.Ready {
			t.Errorf("neighbour %s: %+v", pod.Name, s)
		}
	}
	if out := c.Kubectl("get", "nodes", "--no-headers"); !strings.Contains(out, " Ready ") {
		t.Errorf("the node is %s", out)
	}
	if out := c.Kubectl("logs", "escape"); strings.Contains(out, "REACHED") {
		t.Errorf("it got out: %s", out)
	}
	const mostLog = 5*10<<20 + 1<<20 // five files of 10 MiB, and what one write may add
	if size := logSize(t, c.DataDir, "default_flood_"); size > mostLog {
		t.Errorf("the log has %d bytes", size)
	}
	c.Kubectl("delete", "pods", "--selector=is=hostile", "--timeout=180s")
	eventually(t, c, api.Pods, "is=hostile", "all are gone", func(pods map[string]api.Object) bool { return len(pods) == 0 })
}

// logSize adds up the files of directories whose name begins so.
func logSize(t *testing.T, dir, prefix string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a file that has just been rotated away
		}
		if info, err := d.Info(); err == nil && !d.IsDir() && strings.Contains(path, prefix) {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total == 0 {
		t.Error("there is no log")
	}
	return total
}
