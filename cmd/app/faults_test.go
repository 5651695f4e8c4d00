package app_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/image"
)

// pushRaw pushes past the checks of "wherry push", as other tools would.
func pushRaw(t *testing.T, c *clustertest.Cluster, ref string, content []byte) {
	t.Helper()
	server, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(c.REST())
	if err != nil {
		t.Fatal(err)
	}
	target := image.Target{Registry: server.Host, Transport: transport}
	if _, err := image.Push(t.Context(), target, ref, content, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
}

// onePod is a manifest of one pod with one container named c.
func onePod(name, image, policy, extra string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: %s
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: %q%s}
---
`, name, policy, image, extra)
}

// first is the status of the pod's first container.
func first(pod *corev1.Pod) corev1.ContainerStatus {
	if len(pod.Status.ContainerStatuses) == 0 {
		return corev1.ContainerStatus{}
	}
	return pod.Status.ContainerStatuses[0]
}

// waits is a pod whose container waits for the reason with the text.
func waits(reason, text string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		w := first(pod).State.Waiting
		return pod.Status.Phase == corev1.PodPending && w != nil && w.Reason == reason && strings.Contains(w.Message, text)
	}
}

// crashes is a pod whose container is started over and over.
func crashes(code int32, reason, text string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		s := first(pod)
		return pod.Status.Phase == corev1.PodRunning && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" &&
			s.RestartCount > 0 && terminatedWith(s.LastTerminationState.Terminated, code, reason, text)
	}
}

// ended is a pod that will not run again.
func ended(phase corev1.PodPhase, code int32, reason, text string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		return pod.Status.Phase == phase && terminatedWith(first(pod).State.Terminated, code, reason, text)
	}
}

func terminatedWith(t *corev1.ContainerStateTerminated, code int32, reason, text string) bool {
	return t != nil && t.ExitCode == code && t.Reason == reason && strings.Contains(t.Message, text)
}

// podIs waits until a pod is as it should be.
func podIs(t *testing.T, c *clustertest.Cluster, name string, is func(*corev1.Pod) bool) {
	t.Helper()
	var last *corev1.Pod
	defer func() {
		if t.Failed() && last != nil {
			t.Logf("pod %s: %+v", name, last.Status)
		}
	}()
	eventually(t, c, api.Pods, "", "pod "+name, func(pods map[string]api.Object) bool {
		pod, ok := pods[name].(*corev1.Pod)
		if ok {
			last = pod
		}
		return ok && is(pod)
	})
}

// eventTells waits for an event about an object.
func eventTells(t *testing.T, c *clustertest.Cluster, name, reason, text string) {
	t.Helper()
	var seen []string
	defer func() {
		if t.Failed() {
			t.Logf("events of %s:\n%s", name, strings.Join(seen, "\n"))
		}
	}()
	eventually(t, c, api.Events, "", "event "+reason+" of "+name, func(events map[string]api.Object) bool {
		seen = nil
		for _, obj := range events {
			e, ok := obj.(*corev1.Event)
			if !ok || e.InvolvedObject.Name != name {
				continue
			}
			seen = append(seen, e.Reason+": "+e.Message)
			if e.Reason == reason && strings.Contains(e.Message, text) {
				return true
			}
		}
		return false
	})
}

// unscheduled is a pod that no node takes, and the text says why.
func unscheduled(text string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, text) {
				return true
			}
		}
		return false
	}
}

// TestPodsThatCannotRun: each one says why in its status and in an event, and
// the pod beside them serves on.
func TestPodsThatCannotRun(t *testing.T) {
	c, service := served(t)
	tests := []struct {
		name    string
		content []byte // pushed as name:v1; nil: nothing is pushed
		policy  string
		extra   string
		is      func(*corev1.Pod) bool
		reason  string // of an event
		event   string
	}{
		{"missing", nil, "Always", "", unscheduled("cannot run OCI images"), "InspectFailed", "wherry push"},
		{"bad-name", nil, "Always", "", waits("InvalidImageName", ""), "InspectFailed", "Wrong:"},
		{"not-wasm", notWasm, "Always", "", waits("CreateContainerError", "not a WebAssembly module"), "Failed", "not a WebAssembly module"},
		{"cut-off", truncated, "Always", "", waits("CreateContainerError", "cannot run"), "Failed", "cannot run"},
		{"component", component, "Always", "", waits("CreateContainerError", "component"), "Failed", "component"},
		{"unknown-import", needsMore, "Always", "", waits("CreateContainerError", "thread_spawn"), "Failed", "thread_spawn"},
		{"library", library, "Always", "", waits("CreateContainerError", "_start"), "Failed", "_start"},
		{"traps", traps, "Always", "", crashes(134, "Error", "unreachable"), "BackOff", "Back-off restarting failed container"},
		{"traps-once", traps, "Never", "", ended(corev1.PodFailed, 134, "Error", "unreachable"), "Started", ""},
		{"done-always", returns, "Always", "", crashes(0, "Completed", ""), "BackOff", ""},
		{"done-onfailure", returns, "OnFailure", "", ended(corev1.PodSucceeded, 0, "Completed", ""), "Started", ""},
		{"done-never", returns, "Never", "", ended(corev1.PodSucceeded, 0, "Completed", ""), "Started", ""},
		{"three-always", exits(3), "Always", "", crashes(3, "Error", ""), "BackOff", ""},
		{"three-onfailure", exits(3), "OnFailure", "", crashes(3, "Error", ""), "BackOff", ""},
		{"three-never", exits(3), "Never", "", ended(corev1.PodFailed, 3, "Error", ""), "Started", ""},
		{"too-big", fourMiB, "Always", ", resources: {limits: {memory: 1Mi}}", waits("RunContainerError", "memory"), "Failed", "limit"},
		{"grows", growsAndDie, "Never", ", resources: {limits: {memory: 1Mi}}", ended(corev1.PodFailed, 137, "OOMKilled", "memory"), "Started", ""},
	}
	var manifest strings.Builder
	for _, tt := range tests {
		ref := tt.name + ":v1"
		if tt.name == "bad-name" {
			ref = "Wrong::v1"
		}
		if tt.content != nil {
			pushRaw(t, c, ref, tt.content)
		}
		manifest.WriteString(onePod(tt.name, ref, tt.policy, tt.extra))
	}
	c.Apply(manifest.String())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			podIs(t, c, tt.name, tt.is)
			eventTells(t, c, tt.name, tt.reason, tt.event)
		})
	}
	answersFrom(t, clusterURL(service), 3)
	c.Kubectl("delete", "pods", "--all", "--timeout=180s")
}

// TestPushRefusesWhatCannotRun: nothing of it reaches the cluster.
func TestPushRefusesWhatCannotRun(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(0))
	for _, tt := range []struct {
		name    string
		content []byte
		says    string
	}{
		{"script", notWasm, "not a WebAssembly module"},
		{"component", component, "component"},
		{"truncated", truncated, "the module is truncated"},
		{"empty", nil, "not a WebAssembly module"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := c.TryPush("refused:"+tt.name, tt.content)
			if err == nil || !strings.Contains(out, tt.says) || strings.Count(out, "\n") > 1 {
				t.Errorf("push said %q (%v), want one line with %q", out, err, tt.says)
			}
		})
	}
}

// TestManifestMistakes: the errors name the field.
func TestManifestMistakes(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(0))
	for _, tt := range []struct{ name, manifest, says string }{
		{"unknown field", onePod("a", "i:v1", "Always", ", imagee: x"), `unknown field "spec.containers[0].imagee"`},
		{"wrong type", onePod("a", "i:v1", "Always", `, stdin: "maybe"`), "stdin"},
		{"wrong value", onePod("a", "i:v1", "Sometimes", ""), `spec.restartPolicy: Unsupported value: "Sometimes"`},
		{"bad quantity", onePod("a", "i:v1", "Always", ", resources: {limits: {memory: lots}}"), "quantities must match"},
		{"bad port", onePod("a", "i:v1", "Always", ", ports: [{containerPort: 99999}]"), "spec.containers[0].ports[0].containerPort: Invalid value: 99999"},
		{"unknown kind", "apiVersion: v1\nkind: Pood\nmetadata: {name: a}\n", `no matches for kind "Pood"`},
		{"no yaml", "a: [", "error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if out, err := c.TryKubectl(tt.manifest, "apply", "-f", "-"); err == nil || !strings.Contains(out, tt.says) {
				t.Errorf("%v: %q, want %q", err, out, tt.says)
			}
		})
	}
	if out := c.Kubectl("get", "pods", "-o", "name"); out != "" {
		t.Errorf("something was created: %s", out)
	}
}

// TestMissingSources: a pod that names what is not there says so, and goes on
// once it is.
func TestMissingSources(t *testing.T) {
	c := clustertest.New(t)
	c.Push("done:v1", returns)
	env := func(source, ref string) string {
		return fmt.Sprintf(", env: [{name: V, valueFrom: {%s: %s}}]", source, ref)
	}
	c.Kubectl("create", "secret", "generic", "half", "--from-literal=user=me")
	volume := func(name, source string) string {
		return strings.Replace(onePod(name, "done:v1", "Never", ", volumeMounts: [{name: v, mountPath: /v}]"),
			"  containers:", "  volumes: [{name: v, "+source+"}]\n  containers:", 1)
	}
	c.Apply(onePod("no-map", "done:v1", "Never", env("configMapKeyRef", "{name: settings, key: a}")) +
		onePod("no-secret", "done:v1", "Never", env("secretKeyRef", "{name: login, key: user}")) +
		onePod("no-key", "done:v1", "Never", env("secretKeyRef", "{name: half, key: password}")) +
		onePod("optional", "done:v1", "Never", env("secretKeyRef", "{name: nowhere, key: a, optional: true}")) +
		volume("no-map-volume", "configMap: {name: settings}") + volume("no-secret-volume", "secret: {secretName: login}"))
	podIs(t, c, "no-map", waits("CreateContainerConfigError", `configmap "settings" not found`))
	podIs(t, c, "no-secret", waits("CreateContainerConfigError", `secret "login" not found`))
	podIs(t, c, "no-key", waits("CreateContainerConfigError", "couldn't find key password in Secret default/half"))
	eventTells(t, c, "no-map", "Failed", `configmap "settings" not found`)
	eventTells(t, c, "no-map-volume", "FailedMount", `"settings" not found`)
	eventTells(t, c, "no-secret-volume", "FailedMount", `"login" not found`)
	done := ended(corev1.PodSucceeded, 0, "Completed", "")
	podIs(t, c, "optional", done)

	c.Kubectl("create", "configmap", "settings", "--from-literal=a=1")
	c.Kubectl("create", "secret", "generic", "login", "--from-literal=user=me")
	c.Kubectl("patch", "secret", "half", "-p", `{"stringData":{"password":"x"}}`)
	for _, name := range []string{"no-map", "no-secret", "no-key", "no-map-volume", "no-secret-volume"} {
		podIs(t, c, name, done)
	}
}

// TestPortsInUse: whoever comes second is told where and by an event, and gets
// the port when it is free.
func TestPortsInUse(t *testing.T) {
	c, service := served(t)
	c.ExpectWarnings("service address not bound")
	taken, err := net.Listen("tcp", net.JoinHostPort(c.NodePorts.String(), "30777"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	network := service.Spec.ClusterIP[:strings.LastIndexByte(service.Spec.ClusterIP, '.')]
	address := network + ".253"
	if address == service.Spec.ClusterIP { // addresses are given out at random
		address = network + ".252"
	}
	other, err := net.Listen("tcp", net.JoinHostPort(address, "8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: node-port}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 8080, nodePort: 30777}]}
---
apiVersion: v1
kind: Service
metadata: {name: cluster-ip}
spec: {clusterIP: %s, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: twice}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: "hello:v1", ports: [{containerPort: 8080}]}
  - {name: two, image: "hello:v1", ports: [{containerPort: 8080}]}
`, address))
	eventTells(t, c, "node-port", "PortNotBound", ":30777")
	eventTells(t, c, "cluster-ip", "PortNotBound", address+":8080")
	podIs(t, c, "twice", func(pod *corev1.Pod) bool {
		running, refused := 0, 0
		for _, s := range pod.Status.ContainerStatuses {
			switch {
			case s.State.Running != nil:
				running++
			case s.State.Waiting != nil && strings.Contains(s.State.Waiting.Message, "port 8080 is taken by another container of the pod"):
				refused++
			}
		}
		return running == 1 && refused == 1
	})
	if _, err := ask(fresh, clusterURL(service)); err != nil {
		t.Errorf("the Service beside them: %v", err)
	}
	c.Kubectl("delete", "pod", "twice", "--timeout=180s")
}

// TestLogFlood: a guest that writes a hundred megabytes ends, its log stays
// within bounds and can be read.
func TestLogFlood(t *testing.T) {
	c := clustertest.New(t)
	c.Push("flood:v1", floods)
	c.Apply(onePod("flood", "flood:v1", "Never", ""))
	podIs(t, c, "flood", ended(corev1.PodSucceeded, 0, "Completed", ""))
	if out := c.Kubectl("logs", "flood", "--tail=2"); len(out) != 2*floodLine {
		t.Errorf("the last two lines have %d bytes, want %d", len(out), 2*floodLine)
	}
}
