package app_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// process is a wherry command that runs until it is ended.
type process struct {
	cmd    *exec.Cmd
	errors *screen
}

func startCommand(t *testing.T, until *regexp.Regexp, args ...string) (*process, []string) {
	t.Helper()
	return startCommandBy(t, (*exec.Cmd).Start, until, args...)
}

// startCommandBy is startCommand with a way of starting of its own.
func startCommandBy(t *testing.T, start func(*exec.Cmd) error, until *regexp.Regexp, args ...string) (*process, []string) {
	t.Helper()
	p := &process{cmd: clustertest.Command(t, args...), errors: newScreen()}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.errors
	if err := start(p.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := until.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
			return p, m
		}
	}
	p.kill()
	t.Fatalf("%v ended: %s", args, p.errors.text.String())
	return nil, nil
}

func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

const remotePods = `
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: web}}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 1
  containers:
  - {name: hello, image: "hello:v1", env: [{name: POD_NAME, value: %[1]s}], ports: [{containerPort: 8080}]}
`

const remoteService = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

// remoteBed is a server and two nodes, each a process.
type remoteBed struct {
	t      *testing.T
	dir    string
	server *process
	wire   *wire // between the nodes and the server
	nodes  map[string]*process
	token  string
	dirs   map[string]string
	flags  []string // more of them, for nodes that are started from now on
}

func newRemoteBed(t *testing.T) *remoteBed {
	networks := clustertest.Claim(t)
	b := &remoteBed{t: t, dir: t.TempDir(), nodes: map[string]*process{}, dirs: map[string]string{"one": t.TempDir(), "two": t.TempDir()}}
	var m []string
	b.server, m = startCommand(t, regexp.MustCompile(`API server  https://(\S+)`), "server", "--data-dir", b.dir, "--api-address", "127.0.0.1:0",
		"--no-kubeconfig", "--service-cidr", networks.Services.String(), "--pod-cidr", networks.Pods.String(), "--node-port-address", networks.NodePorts.String())
	b.wire = newWire(t, m[1])
	b.token = strings.TrimSpace(b.command("token", "create", "--ttl", "1h"))
	return b
}

// command runs wherry at the server.
func (b *remoteBed) command(args ...string) string {
	b.t.Helper()
	out, err := b.try("", args...)
	if err != nil {
		b.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func (b *remoteBed) try(input string, args ...string) (string, error) {
	cmd := clustertest.Command(b.t, append([]string{"--data-dir", b.dir}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (b *remoteBed) start(name string) {
	b.t.Helper()
	b.nodes[name], _ = startCommand(b.t, regexp.MustCompile(`Node +`+name+` ready`), b.args(name)...)
}

// launch starts a node that cannot become ready.
func (b *remoteBed) launch(name string) {
	b.t.Helper()
	p := &process{cmd: clustertest.Command(b.t, b.args(name)...), errors: newScreen()}
	p.cmd.Stderr = p.errors
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(p.kill)
	b.nodes[name] = p
}

func (b *remoteBed) podIP(name string) string {
	b.t.Helper()
	return b.command("kubectl", "get", "pod", name, "-o", "jsonpath={.status.podIP}")
}

func (b *remoteBed) args(name string) []string {
	args := []string{"node", "--server", "https://" + b.wire.l.Addr().String(), "--token", b.token, "--data-dir", b.dirs[name], "--name", name, "--label", "zone=z-" + name}
	if name == "two" { // as if it were on another machine: its pods are reached by the server's relay only
		args = append(args, "--label", "wherry.dev/network=elsewhere")
	}
	return append(args, b.flags...)
}

// until repeats a command until what it prints contains a text: the processes
// report to no one that a test could watch.
func (b *remoteBed) until(text string, args ...string) string {
	b.t.Helper()
	var out string
	for deadline := time.Now().Add(clustertest.Patience); time.Now().Before(deadline); {
		if out, _ = b.try("", args...); strings.Contains(out, text) {
			return out
		}
	}
	b.t.Fatalf("%v never printed %q: %s", args, text, out)
	return ""
}

func (b *remoteBed) apply(manifest string) {
	b.t.Helper()
	if out, err := b.try(manifest, "kubectl", "apply", "-f", "-"); err != nil {
		b.t.Fatalf("apply: %v\n%s", err, out)
	}
}

func (b *remoteBed) push() {
	b.t.Helper()
	file := b.t.TempDir() + "/hello.wasm"
	writeFile(b.t, file, samples.HelloModule)
	b.command("push", file, "hello:v1")
}

// TestNodesElsewhere runs a server and two nodes as processes of their own and
// does to them what happens to machines.
func TestNodesElsewhere(t *testing.T) {
	b := newRemoteBed(t)
	if out, err := b.try("", "node", "--server", "https://"+b.wire.l.Addr().String(), "--data-dir", t.TempDir(), "--name", "x",
		"--token", b.token[:len("id1234.secret1234567890@sha256:")]+strings.Repeat("0", 64)); err == nil || !strings.Contains(out, "this is not the cluster that made the token") {
		t.Errorf("a token with another hash: %v\n%s", err, out)
	}
	b.push()
	b.start("one")
	b.start("two")
	for _, name := range []string{"one", "two"} {
		b.apply(fmt.Sprintf(remotePods, name))
	}
	b.apply(remoteService)
	b.command("kubectl", "wait", "--for=condition=Ready", "pod/one", "pod/two", "--timeout=180s")
	if out := b.command("kubectl", "get", "node", "one", "-o", "jsonpath={.metadata.labels}"); !strings.Contains(out, `"zone":"z-one"`) {
		t.Errorf("labels: %s", out)
	}

	// Everything that goes to a node goes through its tunnel.
	if out := b.command("kubectl", "exec", "two", "--", "sh", "-c", "echo from $POD_NAME"); out != "from two\n" {
		t.Errorf("exec: %q", out)
	}
	ip := b.podIP("one")
	if out := b.command("kubectl", "exec", "two", "--", "wget", "-qO-", "http://"+ip+":8080/"); !strings.HasPrefix(out, "Hello from one") {
		t.Errorf("from pod to pod: %q", out)
	}
	ip = b.podIP("two")
	if out := b.command("kubectl", "exec", "one", "--", "wget", "-qO-", "http://"+ip+":8080/"); !strings.HasPrefix(out, "Hello from two") {
		t.Errorf("from pod to pod by the relay: %q", out)
	}
	if out, err := b.try("", "kubectl", "exec", "one", "--", "wget", "-qO-", "http://"+ip+":8081/"); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("a port on which nobody listens, by the relay: %v, %q", err, out)
	}
	b.until("Hello from one", "kubectl", "exec", "two", "--", "wget", "-qO-", "http://web/")
	b.until("Hello from two", "kubectl", "exec", "two", "--", "wget", "-qO-", "http://web/")
	b.until("Hello from", "kubectl", "get", "--raw", "/api/v1/namespaces/default/services/web/proxy/")

	// The API server is a Service like any other, also where only its node has a
	// way to it.
	for _, address := range []string{"$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT", "kubernetes.default.svc:443"} {
		if out, err := b.try("", "kubectl", "exec", "two", "--", "sh", "-c", "wget -O- http://"+address+"/version"); err == nil || !strings.Contains(out, "400 Bad Request") {
			t.Errorf("plain HTTP to the API server, from a pod of another node: %v %s", err, out)
		}
	}

	t.Run("cut off under load", func(t *testing.T) { b.testLoad(t) })
	t.Run("cut off", func(t *testing.T) { b.testCut(t) })
	t.Run("killed", func(t *testing.T) {
		b.nodes["two"].kill()
		b.start("two")
		b.until("1", "kubectl", "get", "pod", "two", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
		b.until("from two", "kubectl", "exec", "two", "--", "sh", "-c", "echo from $POD_NAME")
	})
	t.Run("static pods", func(t *testing.T) { b.testStatic(t) })
}

const staticPod = `
apiVersion: v1
kind: Pod
metadata: {name: own, labels: {app: own}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: hello, image: "hello:v1", env: [{name: POD_NAME, value: static}], ports: [{containerPort: 8080}]}
`

// testStatic gives a node a directory of manifests and ends it in order.
func (b *remoteBed) testStatic(t *testing.T) {
	manifests := t.TempDir()
	b.flags = []string{"--pod-manifest-path", manifests, "--shutdown-grace-period", "20s", "--shutdown-grace-period-critical-pods", "5s"}
	b.nodes["two"].kill()
	b.start("two")
	writeFile(t, filepath.Join(manifests, "own.yaml"), []byte(staticPod))
	b.until("pod/own-two", "kubectl", "get", "pod", "own-two", "-o", "name")
	b.command("kubectl", "wait", "--for=condition=Ready", "pod/own-two", "--timeout=180s")
	if out := b.command("kubectl", "exec", "own-two", "--", "sh", "-c", "echo from $POD_NAME"); out != "from static\n" {
		t.Errorf("exec in a static pod: %q", out)
	}
	b.command("kubectl", "logs", "own-two")
	if out := b.command("kubectl", "describe", "pod", "own-two"); !strings.Contains(out, "Controlled By:  Node/two") || !strings.Contains(out, "Started") {
		t.Errorf("description without its node or the pod's events: %s", out)
	}
	uid := b.command("kubectl", "get", "pod", "own-two", "-o", "jsonpath={.metadata.uid}")
	b.command("kubectl", "delete", "pod", "own-two")
	b.command("kubectl", "wait", "--for=create", "pod/own-two", "--timeout=180s")
	b.command("kubectl", "wait", "--for=condition=Ready", "pod/own-two", "--timeout=180s")
	if again := b.command("kubectl", "get", "pod", "own-two", "-o", "jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}"); again == uid+" 0" || !strings.HasSuffix(again, " 0") {
		t.Errorf("the mirror is %q, before %q", again, uid)
	}

	if err := b.nodes["two"].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := b.nodes["two"].cmd.Wait(); err != nil {
		t.Errorf("the node ended with %v: %s", err, b.nodes["two"].errors.text.String())
	}
	for _, name := range []string{"two", "own-two"} {
		if out := b.command("kubectl", "get", "pod", name, "-o", "jsonpath={.status.phase} {.status.reason}: {.status.message}"); out != "Failed Terminated: Pod was terminated in response to imminent node shutdown." {
			t.Errorf("pod %s: %s", name, out)
		}
	}
	if out := b.command("kubectl", "get", "node", "two", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`); out != "node is shutting down" {
		t.Errorf("node: %s", out)
	}
}

// testCut takes the link away: what runs goes on, and when the link is back
// nothing has been started twice.
func (b *remoteBed) testCut(t *testing.T) {
	address := b.command("kubectl", "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	b.wire.setCut(true)
	defer b.wire.setCut(false) // what comes after this test needs the wire
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 { // whoever has the address passes over the pod that it cannot reach
		response, err := client.Get("http://" + address + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if !strings.HasPrefix(string(body), "Hello from ") {
			t.Errorf("%q", body)
		}
	}
	if out, err := b.try("", "kubectl", "exec", "one", "--", "true"); err == nil || !strings.Contains(out, "cannot be reached") {
		t.Errorf("exec on a node that is cut off: %v, %s", err, out)
	}
	// Also a node that is started again while it is cut off runs its pods: what
	// they need is on its disk.
	ip := b.podIP("one")
	b.nodes["one"].kill()
	b.launch("one")
	for deadline := time.Now().Add(clustertest.Patience); ; {
		response, err := client.Get("http://" + ip + ":8080/") // two processes of one network
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if strings.HasPrefix(string(body), "Hello from one") {
				break
			}
			t.Fatalf("%q", body)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pod does not run again: %v: %s", err, b.nodes["one"].errors.text.String())
		}
	}
	b.wire.setCut(false)
	b.until("from one", "kubectl", "exec", "one", "--", "sh", "-c", "echo from $POD_NAME")
	b.until("1", "kubectl", "get", "pod", "one", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
	if out := b.command("kubectl", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}"); out != "1 0" {
		t.Errorf("restarts: %s", out)
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
