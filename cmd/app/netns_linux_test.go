package app_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is one with a loopback device and nothing else: nobody outside can
// reach what is in it.
type network struct{ file *os.File }

// newNetwork makes a network that is gone when the test and all that it has
// started there are.
func newNetwork(t *testing.T) network {
	t.Helper()
	var n network
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network: %w", err)
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		loopback, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		loopback.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, loopback); err != nil {
			return fmt.Errorf("set the loopback device up: %w", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		t.Skip("a network of its own needs root and a kernel that makes some: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// do calls f in the network: the sockets and processes that it makes stay there.
func (n network) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread that nobody uses before or after.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		done <- f()
	}()
	return <-done
}

const natPods = `
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: web}}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: hello
    image: hello:v1
    env: [{name: POD_NAME, value: two}]
    ports: [{containerPort: 8080}]
    volumeMounts: [{name: data, mountPath: /data}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, annotations: {wherry.dev/interpret: client}}
spec:
  nodeName: two
  restartPolicy: Never
  containers: [{name: client, image: "client:v1"}]
`

// TestNodeBehindNAT: a node in a network of its own, whose only way out is one
// that it dials and that leads to the server alone, as behind a router that
// translates addresses. Nothing can be dialled there, and everything works.
func TestNodeBehindNAT(t *testing.T) {
	n := newNetwork(t)
	module := filepath.Join(t.TempDir(), "client.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", module, "./testdata/guestclient")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	b := newRemoteBed(t)
	b.push()
	b.command("push", module, "client:v1")
	var exit net.Listener
	if err := n.do(func() (err error) { exit, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		t.Fatal(err)
	}
	b.wire = newWireFrom(t, exit, b.wire.to)
	inside := func(cmd *exec.Cmd) error { return n.do(cmd.Start) }
	b.nodes["two"], _ = startCommandBy(t, inside, regexp.MustCompile(`Node +two ready`), b.args("two")...)
	b.apply(natPods + "---" + remoteService)
	b.command("kubectl", "wait", "--for=condition=Ready", "pod/two", "--timeout=180s")

	address := net.JoinHostPort(b.podIP("two"), "8080")
	if conn, err := net.DialTimeout("tcp", address, time.Minute); err == nil {
		conn.Close()
		t.Errorf("%s can be dialled from outside of its network", address)
	}
	if out := b.command("kubectl", "exec", "two", "--", "sh", "-c", "echo from $POD_NAME"); out != "from two\n" {
		t.Errorf("exec: %q", out)
	}
	for _, path := range []string{"namespaces/default/pods/two:8080/proxy/", "namespaces/default/services/web/proxy/"} {
		b.until("Hello from two", "kubectl", "get", "--raw", "/api/v1/"+path)
	}
	if out := b.command("kubectl", "get", "--raw", "/api/v1/nodes/two/proxy/healthz"); out != "ok" {
		t.Errorf("the node's health: %q", out)
	}
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, []byte("there and back\n"))
	b.command("kubectl", "cp", file, "two:/data/file")
	b.command("kubectl", "cp", "two:/data/file", file+".back")
	if back, err := os.ReadFile(file + ".back"); err != nil || string(back) != "there and back\n" {
		t.Errorf("cp: %q, %v", back, err)
	}
	_, m := startCommand(t, regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`), "--data-dir", b.dir, "kubectl", "port-forward", "pod/two", ":8080")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + m[1] + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || !strings.HasPrefix(string(body), "Hello from two") {
		t.Errorf("port-forward: %q, %v", body, err)
	}

	// A guest asks the API server, over TLS, by its Service.
	b.until("ed", "kubectl", "get", "pod", "client", "-o", "jsonpath={.status.phase}") // Succeeded, or Failed
	if out := b.command("kubectl", "logs", "client"); out != "my node is two\n" {
		t.Errorf("the client says %q", out)
	}
}
