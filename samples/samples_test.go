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

// TestSamples runs each sample as its README says, all in one cluster.
func TestSamples(t *testing.T) {
	c := clustertest.New(t)
	bed := &bed{c: c, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	t.Run("in C", func(t *testing.T) {
		if _, err := exec.LookPath("clang"); err != nil {
			t.Skip("this machine has no clang")
		}
		c.Push("counter:v1", compile(t, "counter/main.c"))
		c.Push("clock:v1", compile(t, "cron/main.c"))
		c.Push("function:v1", compile(t, "function/main.c"))
		c.Push("seed:v1", compile(t, "mixed/seed.c"))
		for name, run := range map[string]func(*testing.T){"counter": bed.counter, "cron": bed.cron, "function": bed.function, "mixed": bed.mixed} {
			t.Run(name, func(t *testing.T) { t.Parallel(); run(t) })
		}
	})
	// After the others: its module takes a while to compile.
	t.Run("guestbook", func(t *testing.T) {
		if raceEnabled {
			t.Skip("compiling a Go guest takes minutes under the race detector")
		}
		bed.guestbook(t)
	})
}

// compile builds a sample as its own comment says.
func compile(t *testing.T, source string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "sample.wasm")
	build(t, exec.CommandContext(t.Context(), "clang", "--target=wasm32-wasi", "-Oz", "-Wall", "-Wextra", "-Werror", "-Wl,--strip-all", "-o", out, source))
	return read(t, out)
}

func build(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if message, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, message)
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

// bed is the cluster that the samples share.
type bed struct {
	c      *clustertest.Cluster
	client *http.Client
}

// deploy applies a sample's manifest and returns the URL of a Service of it.
func (b *bed) deploy(t *testing.T, sample, service string) string {
	t.Helper()
	b.kubectl(t, "apply", "-f", filepath.Join(sample, "manifest.yaml"))
	if service == "" {
		return ""
	}
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

func (b *bed) guestbook(t *testing.T) {
	out := filepath.Join(t.TempDir(), "guestbook.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./guestbook")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	build(t, cmd)
	b.c.Push("guestbook:v1", read(t, out))
	at := b.deploy(t, "guestbook", "guestbook-frontend")
	b.until(t, b.get(at), "<h1>Guestbook</h1>")
	form := url.Values{"entry": {"<b>I was here</b>"}}.Encode()
	b.until(t, b.send(http.MethodPost, at, "application/x-www-form-urlencoded", form), "<li>&lt;b&gt;I was here&lt;/b&gt;</li>")
	b.until(t, b.send(http.MethodPost, at, "application/x-www-form-urlencoded", "entry=+"), "400 an entry has 1 to 280 bytes")
}

func (b *bed) counter(t *testing.T) {
	at := b.deploy(t, "counter", "counter")
	b.until(t, b.get(at), "200 request ")
	b.until(t, b.get(at), "200 request ")
	b.kubectl(t, "delete", "pod", "counter-0")
	answer := ""
	b.until(t, func(ctx context.Context) (string, error) {
		var err error
		answer, err = b.get(at)(ctx)
		return answer, err
	}, "200 request ")
	var count int
	if _, err := fmt.Sscanf(answer, "200 request %d", &count); err != nil || count < 3 {
		t.Errorf("the new pod says %q: the count is lost", answer)
	}
}

func (b *bed) cron(t *testing.T) {
	b.deploy(t, "cron", "")
	b.kubectl(t, "create", "job", "now", "--from=cronjob/clock")
	b.kubectl(t, "wait", "--for=condition=Complete", "job/now", "--timeout=120s")
	if got := b.kubectl(t, "logs", "job/now"); !strings.HasPrefix(got, "now-") || !strings.Contains(got, ": it is 20") {
		t.Errorf("the job says %q", got)
	}
}

func (b *bed) function(t *testing.T) {
	at := b.deploy(t, "function", "function")
	for range 2 {
		b.until(t, b.send(http.MethodPost, at+"/path?a=b", "", "hello"), "200 POST /path?a=b, body of 5 bytes, call 1 of this instance")
	}
	b.until(t, b.get(at+"/missing"), "404 there is nothing here")
}

func (b *bed) mixed(t *testing.T) {
	at := b.deploy(t, "mixed", "mixed")
	b.until(t, b.get(at), "200 request 4") // 42, or more where an answer was lost on its way
	b.until(t, func(context.Context) (string, error) { return b.c.TryKubectl("", "logs", "mixed", "-c", "watch") }, "the count is 4")
}
