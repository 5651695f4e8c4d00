package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// cutTime is how long the control plane stays away; WHERRY_CUT_TIME=1m is the
// full size.
func cutTime(t *testing.T) time.Duration {
	text := os.Getenv("WHERRY_CUT_TIME")
	if text == "" {
		return time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal("WHERRY_CUT_TIME: ", err)
	}
	return d
}

const callers = `
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {selector: {role: near}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near-1, labels: {role: near}}
spec:
  nodeName: one
  terminationGracePeriodSeconds: 1
  containers: [{name: hello, image: "hello:v1", env: [{name: POD_NAME, value: near-1}], ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: near-2, labels: {role: near}}
spec:
  nodeName: one
  terminationGracePeriodSeconds: 1
  containers: [{name: hello, image: "hello:v1", env: [{name: POD_NAME, value: near-2}], ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec:
  nodeName: one
  terminationGracePeriodSeconds: 1
  containers:
  - {name: a, image: wherry.dev/tools, command: &loop [sh, -c, "while :; do wget -qO- http://near/ || echo FAILED; sleep 0.02; done"]}
  - {name: b, image: wherry.dev/tools, command: *loop}
  - {name: c, image: wherry.dev/tools, command: *loop}
  - {name: d, image: wherry.dev/tools, command: *loop}
`

// testLoad lets pods call a Service of other pods of their node, and takes the
// control plane away meanwhile: no call may fail.
func (b *remoteBed) testLoad(t *testing.T) {
	b.apply(callers)
	b.command("kubectl", "wait", "--for=condition=Ready", "pod/near-1", "pod/near-2", "pod/caller", "--timeout=180s")
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		b.answered(t, name, "near-1", 1)
		b.answered(t, name, "near-2", 1)
	}
	b.wire.setCut(true)
	defer b.wire.setCut(false)
	refused := map[string]int{} // until the Service was known, before the cut
	for _, name := range names {
		refused[name] = strings.Count(b.said(t, name), "FAILED")
	}
	for end := time.Now().Add(cutTime(t)); ; {
		for _, name := range names {
			for _, pod := range []string{"near-1", "near-2"} {
				b.answered(t, name, pod, strings.Count(b.said(t, name), "Hello from "+pod)+10)
			}
		}
		if time.Now().After(end) {
			break
		}
	}
	for _, name := range names {
		if now := strings.Count(b.said(t, name), "FAILED"); now > refused[name] {
			t.Errorf("%s: %d calls failed", name, now-refused[name])
		}
		t.Logf("%s: %d answers in all", name, strings.Count(b.said(t, name), "Hello from"))
	}
	b.wire.setCut(false)
	b.command("kubectl", "delete", "service/near", "pod/near-1", "pod/near-2", "pod/caller")
}

// said is what a container of the pod caller has written, as the node keeps it:
// nobody else can be asked.
func (b *remoteBed) said(t *testing.T, container string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dirs["one"], "node", "logs", "default_caller_*", container, "0.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("logs of %s: %v %v", container, files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// answered waits until a container has had n answers of a pod.
func (b *remoteBed) answered(t *testing.T, container, pod string, n int) {
	t.Helper()
	for deadline := time.Now().Add(clustertest.Patience); time.Now().Before(deadline); {
		if strings.Count(b.said(t, container), "Hello from "+pod) >= n {
			return
		}
	}
	t.Fatalf("%s has no %d answers of %s, but said %s", container, n, pod, b.said(t, container))
}
