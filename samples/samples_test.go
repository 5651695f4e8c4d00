package samples_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestMain lets the test binary serve as the wherry command.
func TestMain(m *testing.M) { clustertest.Main(m) }

// TestSamples copies the commands of each README into a shell and looks at what
// comes of them, all in one cluster.
func TestSamples(t *testing.T) {
	c := clustertest.New(t)
	bed := &bed{c: c, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	bed.checkOut(t)
	t.Run("in C", func(t *testing.T) {
		if _, err := exec.LookPath("clang"); err != nil {
			t.Skip("this machine has no clang")
		}
		for name, run := range map[string]func(*testing.T){"chello": bed.chello, "cron": bed.cron, "function": bed.function} {
			t.Run(name, func(t *testing.T) { t.Parallel(); run(t) })
		}
		t.Run("counter, mixed", func(t *testing.T) { // of one image, which both push
			t.Parallel()
			t.Run("counter", bed.counter)
			t.Run("mixed", bed.mixed)
		})
	})
	t.Run("in Rust", bed.rust)
	// After the others: their modules take a while to compile.
	t.Run("in Go", func(t *testing.T) {
		if raceEnabled {
			t.Skip("compiling a Go guest takes minutes under the race detector")
		}
		t.Run("hello", bed.hello)
		t.Run("guestbook", bed.guestbook)
	})
}

// bed is the cluster that the samples share, and a checkout of the repository
// in which their READMEs are followed.
type bed struct {
	c        *clustertest.Cluster
	client   *http.Client
	checkout string
	env      []string
}

// checkOut makes a directory with the repository's sources in it, where the
// commands may leave what they build, and an environment with the wherry
// command that knows the cluster.
func (b *bed) checkOut(t *testing.T) {
	t.Helper()
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the READMEs need %s, which this machine has not", program)
		}
	}
	b.checkout = t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "runtime", "samples"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(b.checkout, name)); err != nil {
			t.Fatal(err)
		}
	}
	command := b.c.Command("push") // its environment has a home of its own
	wherry := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", command.Path)
	home := t.TempDir()
	// An endpoint takes its moment after its pod is ready.
	curlrc := "silent\nshow-error\nfail\nretry = 120\nretry-delay = 1\nretry-all-errors\n"
	for path, text := range map[string]string{filepath.Join(b.checkout, "wherry"): wherry, filepath.Join(home, ".curlrc"): curlrc} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	goEnv, err := exec.CommandContext(t.Context(), "go", "env", "GOENV", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Split(string(goEnv), "\n")
	b.env = append(command.Env, "WHERRY_DATA_DIR="+b.c.DataDir, "HOME="+home, "GOENV="+own[0], "GOCACHE="+own[1], "GOMODCACHE="+own[2],
		"PATH="+b.checkout+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// follow runs the commands of a README, those after a text in it, and returns
// what they printed.
func (b *bed) follow(t *testing.T, readme, after string) string {
	t.Helper()
	_, text, found := strings.Cut(string(read(t, readme)), after)
	var commands strings.Builder
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands.WriteString(command)
		}
	}
	if !found || commands.Len() == 0 {
		t.Fatalf("%s has no commands after %q", readme, after)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*clustertest.Patience)
	defer cancel()
	// The cluster's node ports are on an address of their own.
	script := strings.ReplaceAll(commands.String(), "127.0.0.1", b.c.NodePorts.String())
	cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = b.checkout, b.env
	var out, steps bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &steps
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", readme, err, steps.String(), out.String())
	}
	return out.String()
}

// says fails the test where a README's commands did not print a text.
func says(t *testing.T, out, want string) {
	t.Helper()
	if !strings.Contains(out, want) {
		t.Errorf("the README's commands did not print %q:\n%s", want, out)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// address is the URL of a Service.
func (b *bed) address(t *testing.T, service string) string {
	t.Helper()
	return "http://" + b.kubectl(t, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}")
}

// kubectl is the cluster's for a parallel test: a failure is that test's.
func (b *bed) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.c.TryKubectl("", args...)
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return out
}

// until asks until the answer is as wanted: endpoints take their moment.
func (b *bed) until(t *testing.T, ask func(ctx context.Context) (string, error), want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	for {
		got, err := ask(ctx)
		if err == nil && strings.Contains(got, want) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("never %q; the last was %q, %v", want, got, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// get asks for a URL, post sends a body of a type to it.
func (b *bed) get(url string) func(context.Context) (string, error) {
	return b.send(http.MethodGet, url, "", "")
}

func (b *bed) send(method, url, kind, body string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			return "", err
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		answer, err := b.client.Do(r)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		var text bytes.Buffer
		_, err = io.Copy(&text, answer.Body)
		return fmt.Sprintf("%d %s", answer.StatusCode, text.String()), err
	}
}

func (b *bed) chello(t *testing.T) {
	says(t, b.follow(t, "chello/README.md", ""), "Hello from chello-")
}

// hello is followed by the README of the repository, which deploys it too.
func (b *bed) hello(t *testing.T) {
	says(t, b.follow(t, "hello/README.md", ""), "Hello from hello-")
	out := b.follow(t, "../README.md", "In another terminal")
	if got := strings.Count(out, "Hello from hello-"); got != 2 {
		t.Errorf("%d answers by cluster address and node port:\n%s", got, out)
	}
	says(t, out, "deployment.apps/hello scaled")
}

// rust runs the program of the documentation.
func (b *bed) rust(t *testing.T) {
	compiler, target := rustTarget(t)
	_, text, _ := strings.Cut(string(read(t, "../docs/guests.md")), "```rust\n")
	program, rest, _ := strings.Cut(text, "```\n")
	source := filepath.Join(t.TempDir(), "main.rs")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	_, command, found := strings.Cut(rest, "    rustc --target wasm32-wasip1 ")
	command, _, _ = strings.Cut(command, "\n")
	if !found {
		t.Fatal("docs/guests.md does not say how to compile it")
	}
	build := exec.CommandContext(t.Context(), compiler, append([]string{"--target", target}, strings.Fields(command)...)...)
	build.Dir = filepath.Dir(source)
	if message, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, message)
	}
	b.c.Push("rust:v1", read(t, filepath.Join(build.Dir, "app.wasm")))
	b.c.Apply(rustManifest)
	b.until(t, b.get(b.address(t, "rust")), "200 hello")
	// Its listener ends, and so does it.
	b.kubectl(t, "delete", "pod", "rust")
}

const rustManifest = `
apiVersion: v1
kind: Pod
metadata: {name: rust, labels: {app: rust}}
spec:
  containers:
  - {name: app, image: "rust:v1", ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: rust}
spec: {selector: {app: rust}, ports: [{port: 80, targetPort: 8080}]}
`

// rustTarget finds a Rust compiler that has the standard library for WASI, and
// what it calls the target; it skips the test where there is none. A
// distribution's may stand behind one of rustup's that lacks the library.
func rustTarget(t *testing.T) (compiler, target string) {
	t.Helper()
	for _, compiler := range []string{"rustc", "/usr/bin/rustc"} {
		for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} {
			out, err := exec.CommandContext(t.Context(), compiler, "--print", "target-libdir", "--target", target).Output()
			if err != nil {
				continue
			}
			if _, err := os.Stat(strings.TrimSpace(string(out))); err == nil {
				return compiler, target
			}
		}
	}
	t.Skip("no Rust compiler here with a standard library for WASI preview 1 (rustup target add wasm32-wasip1)")
	return "", ""
}

func (b *bed) guestbook(t *testing.T) {
	b.follow(t, "guestbook/README.md", "")
	at := b.address(t, "guestbook-frontend")
	b.until(t, b.get(at), "<h1>Guestbook</h1>")
	form := url.Values{"entry": {"<b>I was here</b>"}}.Encode()
	b.until(t, b.send(http.MethodPost, at, "application/x-www-form-urlencoded", form), "<li>&lt;b&gt;I was here&lt;/b&gt;</li>")
	b.until(t, b.send(http.MethodPost, at, "application/x-www-form-urlencoded", "entry=+"), "400 an entry has 1 to 280 bytes")
}

// counter deletes its pod at the end: the next one goes on counting.
func (b *bed) counter(t *testing.T) {
	says(t, b.follow(t, "counter/README.md", ""), "request 1")
	at, answer := b.address(t, "counter"), ""
	b.until(t, func(ctx context.Context) (string, error) {
		var err error
		answer, err = b.get(at)(ctx)
		return answer, err
	}, "200 request ")
	var count int
	if _, err := fmt.Sscanf(answer, "200 request %d", &count); err != nil || count < 2 {
		t.Errorf("the new pod says %q: the count is lost", answer)
	}
}

func (b *bed) cron(t *testing.T) {
	out := b.follow(t, "cron/README.md", "")
	says(t, out, "\nnow-")
	says(t, out, ": it is 20")
}

func (b *bed) function(t *testing.T) {
	const want = "POST /path?a=b, body of 5 bytes, call 1 of this instance"
	says(t, b.follow(t, "function/README.md", ""), want)
	at := b.address(t, "function")
	b.until(t, b.send(http.MethodPost, at+"/path?a=b", "", "hello"), "200 "+want)
	b.until(t, b.get(at+"/missing"), "404 there is nothing here")
}

func (b *bed) mixed(t *testing.T) {
	says(t, b.follow(t, "mixed/README.md", ""), "request 4") // 42, or more where an answer was lost on its way
	b.until(t, func(context.Context) (string, error) { return b.c.TryKubectl("", "logs", "mixed", "-c", "watch") }, "the count is 4")
}
