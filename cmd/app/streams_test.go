package app_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/runtime/wasm/tools"
	"wherry.dev/wherry/samples"
)

const streamPods = `
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: hello, image: "hello:v1", env: [{name: POD_NAME, value: web}], ports: [{containerPort: 8080}]}
`

// TestStreams speaks with containers as kubectl does, in both protocols.
func TestStreams(t *testing.T) {
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	module, err := io.ReadAll(tools.Open())
	if err != nil {
		t.Fatal(err)
	}
	c.Push("tools:v1", module)
	c.Apply(streamPods)
	c.Kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=180s")
	for name, dial := range executors {
		t.Run(name, func(t *testing.T) {
			t.Run("terminal", func(t *testing.T) { testTerminal(t, c, dial) })
			t.Run("end of input", func(t *testing.T) { testInput(t, c, dial) })
			t.Run("client goes", func(t *testing.T) { testGone(t, c, dial) })
		})
	}
	t.Run("port-forward", func(t *testing.T) { testPortForward(t, c) })
	t.Run("attach", func(t *testing.T) { testAttach(t, c) })
}

type executor func(t *testing.T, c *clustertest.Cluster, pod, verb string, options corev1.PodExecOptions) remotecommand.Executor

var executors = map[string]executor{
	"websocket": func(t *testing.T, c *clustertest.Cluster, pod, verb string, options corev1.PodExecOptions) remotecommand.Executor {
		e, err := remotecommand.NewWebSocketExecutor(c.REST(), http.MethodGet, streamURL(c, pod, verb, options))
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
	"spdy": func(t *testing.T, c *clustertest.Cluster, pod, verb string, options corev1.PodExecOptions) remotecommand.Executor {
		r := c.Clientset().CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name(pod).SubResource(verb).
			VersionedParams(&options, scheme.ParameterCodec)
		e, err := remotecommand.NewSPDYExecutor(c.REST(), http.MethodPost, r.URL())
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
}

func streamURL(c *clustertest.Cluster, pod, verb string, options corev1.PodExecOptions) string {
	return c.Clientset().CoreV1().RESTClient().Get().Namespace("default").Resource("pods").Name(pod).SubResource(verb).
		VersionedParams(&options, scheme.ParameterCodec).URL().String()
}

// screen collects output and lets a test wait for text in it.
type screen struct {
	mu   sync.Mutex
	cond *sync.Cond
	text strings.Builder
}

func newScreen() *screen {
	s := &screen{}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	s.cond.Broadcast()
	return len(p), nil
}

// String is all that was shown.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	s.awaitCount(ctx, t, text, 1)
}

// awaitCount waits until a text was shown so often.
func (s *screen) awaitCount(ctx context.Context, t *testing.T, text string, count int) {
	t.Helper()
	defer context.AfterFunc(ctx, s.cond.Broadcast)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for strings.Count(s.text.String(), text) < count {
		if ctx.Err() != nil {
			t.Fatalf("the screen never had %q %d times: %q", text, count, s.text.String())
		}
		s.cond.Wait()
	}
}

func testTerminal(t *testing.T, c *clustertest.Cluster, dial executor) {
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	e := dial(t, c, "web", "exec", corev1.PodExecOptions{Command: []string{"sh"}, Stdin: true, Stdout: true, TTY: true})
	keys, typed := io.Pipe()
	shown := newScreen()
	ended := make(chan error, 1)
	sizes := make(sizeQueue, 1)
	sizes <- remotecommand.TerminalSize{Width: 80, Height: 24}
	go func() {
		ended <- e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: keys, Stdout: shown, Tty: true, TerminalSizeQueue: sizes})
	}()
	shown.await(ctx, t, "/ # ")
	for _, step := range []struct{ keys, shows string }{
		{"echo $((6*7))\r", "echo $((6*7))\r\n42\r\n/ # "},
		// The size comes beside the input: it is asked for until it is there.
		{"until test \"$(stty size)\" = '24 80'; do :; done; echo si''zed\r", "sized\r\n/ # "},
		{"sleep 10000\r", "sleep 10000\r\n"},
		{"\x03", "^C\r\n/ # "},
		{"until test \"$(stty size)\" = '50 132'; do :; done; echo res''ized\r", "resized\r\n/ # "},
		{"exit 3\r", "exit 3\r\n"},
	} {
		if strings.Contains(step.keys, "132") {
			sizes <- remotecommand.TerminalSize{Width: 132, Height: 50}
			close(sizes)
		}
		if _, err := io.WriteString(typed, step.keys); err != nil {
			t.Fatal(err)
		}
		shown.await(ctx, t, step.shows)
	}
	var exit utilexec.CodeExitError
	if err := <-ended; !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("ended with %v", err)
	}
}

type sizeQueue chan remotecommand.TerminalSize

func (q sizeQueue) Next() *remotecommand.TerminalSize {
	size, ok := <-q
	if !ok {
		return nil
	}
	return &size
}

// testInput sends more than any buffer holds and reads it back: the end of
// the input must arrive, and nothing may be lost before it.
func testInput(t *testing.T, c *clustertest.Cluster, dial executor) {
	big := strings.Repeat("0123456789abcde\n", 100_000)
	e := dial(t, c, "web", "exec", corev1.PodExecOptions{Command: []string{"cat"}, Stdin: true, Stdout: true, Stderr: true})
	var out, errs bytes.Buffer
	if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(big), Stdout: &out, Stderr: &errs}); err != nil {
		t.Fatal(err)
	}
	if out.String() != big || errs.Len() > 0 {
		t.Errorf("%d bytes of %d came back; errors %q", out.Len(), len(big), errs.String())
	}
}

// testGone lets the client go away: the command must not run on.
func testGone(t *testing.T, c *clustertest.Cluster, dial executor) {
	ctx, cancel := context.WithCancel(t.Context())
	e := dial(t, c, "web", "exec", corev1.PodExecOptions{Command: []string{"sh", "-c", "echo up; sleep 10001"}, Stdout: true})
	shown := newScreen()
	ended := make(chan error, 1)
	go func() { ended <- e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: shown}) }()
	shown.await(ctx, t, "up\n")
	cancel()
	<-ended
	until := "nothing"
	for until != "" { // each look is a command of its own, and ps has no news to watch
		until = ""
		if out := c.Kubectl("exec", "web", "--", "ps"); strings.Contains(out, "10001") {
			until = out
		}
	}
}

var forwarding = regexp.MustCompile(`Forwarding from 127\.0\.0\.1:(\d+)`)

// testPortForward runs kubectl port-forward in both of its protocols.
func testPortForward(t *testing.T, c *clustertest.Cluster) {
	for name, env := range map[string]string{"websocket": "true", "spdy": "false"} {
		t.Run(name, func(t *testing.T) {
			cmd := c.Command("kubectl", "port-forward", "pod/web", ":8080", ":81")
			cmd.Env = append(cmd.Env, "KUBECTL_PORT_FORWARD_WEBSOCKETS="+env)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			complaints := newScreen()
			cmd.Stderr = complaints
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			var ports []string
			lines := bufio.NewScanner(out)
			for len(ports) < 2 && lines.Scan() {
				if m := forwarding.FindStringSubmatch(lines.Text()); m != nil {
					ports = append(ports, m[1])
				}
			}
			if len(ports) < 2 {
				t.Fatalf("no forwarding: %s", complaints.text.String())
			}
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					client := http.Client{Transport: &http.Transport{}}
					defer client.CloseIdleConnections()
					for range 5 {
						response, err := client.Get("http://127.0.0.1:" + ports[0] + "/")
						if err != nil {
							t.Error(err)
							return
						}
						body, _ := io.ReadAll(response.Body)
						response.Body.Close()
						if !strings.HasPrefix(string(body), "Hello from web") {
							t.Errorf("%q", body)
						}
					}
				})
			}
			clients.Wait()
			conn, err := net.Dial("tcp", "127.0.0.1:"+ports[1])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if n, err := io.Copy(io.Discard, conn); n > 0 {
				t.Errorf("%d bytes from a port on which nobody listens, %v", n, err)
			}
			complaints.await(t.Context(), t, "connection refused")
		})
	}
}

const attachPod = `
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: shell, image: "tools:v1", command: [sh], stdin: true, tty: true}
`

// testAttach sits at the terminal of a container: what one client has begun
// the next one finds.
func testAttach(t *testing.T, c *clustertest.Cluster) {
	c.Apply(attachPod)
	c.Kubectl("wait", "--for=condition=Ready", "pod/talk", "--timeout=180s")
	for i, name := range []string{"websocket", "spdy"} {
		size := remotecommand.TerminalSize{Width: uint16(90 + i), Height: 30}
		keys := fmt.Sprintf("x=$x.; until test \"$(stty size)\" = '30 %d'; do :; done; echo $x seen\r", size.Width)
		sizes := make(sizeQueue, 1)
		sizes <- size
		close(sizes)
		ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
		e := executors[name](t, c, "talk", "attach", corev1.PodExecOptions{Stdin: true, Stdout: true, TTY: true})
		typed, keyboard := io.Pipe()
		shown := newScreen()
		ended := make(chan error, 1)
		go func() {
			ended <- e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: typed, Stdout: shown, Tty: true, TerminalSizeQueue: sizes})
		}()
		if _, err := io.WriteString(keyboard, keys); err != nil {
			t.Fatal(err)
		}
		shown.await(ctx, t, " seen\r\n/ # ")
		cancel()
		<-ended
	}
	if logs := c.Kubectl("logs", "talk"); !strings.Contains(logs, "\n. seen") || !strings.Contains(logs, "\n.. seen") {
		t.Errorf("logs: %q", logs)
	}
}
