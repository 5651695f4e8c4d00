// Package clustertest runs whole clusters inside a test: the real store on
// disk, the real API server on a port, real nodes. Tests reach them as users
// do, by client-go and kubectl, or through the client in process.
package clustertest

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/control/api"
)

// Patience bounds every wait of a test that cannot be watched otherwise. It is
// a guard against hanging, not a claim about speed.
const Patience = 2 * time.Minute

// asCommand makes the test binary act as the wherry command.
const asCommand = "WHERRY_CLUSTERTEST_COMMAND"

// Main is for TestMain of packages that use Command or Kubectl: the test
// binary itself serves as the wherry command then.
func Main(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(app.Main(os.Args[1:], app.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	waitTogether()
	os.Exit(m.Run())
}

// waitTogether lets twice as many parallel tests run as usual, unless the user
// has said how many: those of clusters wait half of the time.
func waitTogether() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
}

// Option changes a cluster before it starts.
type Option func(*app.Config)

// Nodes sets how many nodes the cluster has; 1 when not said.
func Nodes(n int) Option { return func(c *app.Config) { c.Nodes = n } }

// DataDir starts the cluster on a directory that another one has left.
func DataDir(dir string) Option { return func(c *app.Config) { c.DataDir = dir } }

// Cluster is a running cluster. It is stopped when its test ends.
type Cluster struct {
	Client     api.Client // in process
	URL        string
	Kubeconfig string // path
	DataDir    string
	// NodePorts is the address on which node ports are served.
	NodePorts netip.Addr

	t        testing.TB
	name     string // of its goroutines
	cfg      app.Config
	stop     func() error
	warnings *warnings
}

// New starts a cluster and waits until its nodes are ready.
func New(t testing.TB, options ...Option) *Cluster {
	t.Helper()
	cfg := app.DefaultConfig()
	cfg.DataDir = t.TempDir()
	cfg.APIAddress = "127.0.0.1:0"
	cfg.MergeKubeconfig = false
	log := &warnings{t: t}
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	networks := Claim(t)
	cfg.ServiceCIDR, cfg.PodCIDR, cfg.NodePortAddress = networks.Services, networks.Pods, networks.NodePorts
	cfg.NodeBits = 21
	for _, option := range options {
		option(&cfg)
	}
	c := &Cluster{t: t, cfg: cfg, DataDir: cfg.DataDir, NodePorts: cfg.NodePortAddress, warnings: log}
	c.name = t.Name() + " " + networks.Pods.String()
	label(c.name)
	checkLeaks(t, c.name)
	c.start()
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Errorf("the cluster ended with: %v", err)
		}
		log.check()
	})
	return c
}

// ExpectWarnings is for tests that break something: the cluster may log
// warnings that contain one of the texts. Any other warning fails the test,
// because a healthy cluster says nothing.
func (c *Cluster) ExpectWarnings(texts ...string) {
	c.warnings.mu.Lock()
	defer c.warnings.mu.Unlock()
	c.warnings.expected = append(c.warnings.expected, texts...)
}

// Warnings returns what the cluster has logged at level warn and above.
func (c *Cluster) Warnings() []string {
	c.warnings.mu.Lock()
	defer c.warnings.mu.Unlock()
	return slices.Clone(c.warnings.lines)
}

// Networks are loopback networks that belong to one test.
type Networks = app.Networks

// Claim gives a test networks that no other test on this machine uses, for as
// long as it runs.
func Claim(t testing.TB) Networks {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("every address of 127.0.0.0/8 can be bound on Linux only")
	}
	networks, release, err := app.FreeNetworks()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return networks
}

func (c *Cluster) start() {
	c.t.Helper()
	cluster := app.New(c.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		label(c.name) // whoever starts it again
		ended <- cluster.Run(ctx)
	}()
	c.stop = func() error {
		cancel()
		err := <-ended
		ended <- nil // stopping again is nothing
		return err
	}
	waiting, done := context.WithTimeout(ctx, Patience)
	defer done()
	if err := cluster.WaitReady(waiting); err != nil {
		c.t.Fatalf("start cluster: %v (%v)", err, c.stop())
	}
	c.Client, c.URL, c.Kubeconfig = cluster.Client(), cluster.URL(), cluster.KubeconfigFile()
}

// Stop ends the cluster before its test does.
func (c *Cluster) Stop() {
	c.t.Helper()
	if err := c.stop(); err != nil {
		c.t.Fatalf("stop cluster: %v", err)
	}
}

// Restart stops the cluster and starts it again on its data directory.
func (c *Cluster) Restart() {
	c.t.Helper()
	if err := c.stop(); err != nil {
		c.t.Fatalf("stop cluster: %v", err)
	}
	c.start()
}

// REST is the admin's client configuration.
func (c *Cluster) REST() *rest.Config {
	c.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		c.t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// Clientset is client-go's typed client as the admin.
func (c *Cluster) Clientset() *kubernetes.Clientset {
	c.t.Helper()
	set, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		c.t.Fatal(err)
	}
	return set
}

// Command prepares the wherry command as a process of its own, pointed at the
// cluster.
func (c *Cluster) Command(args ...string) *exec.Cmd {
	return Command(c.t, append([]string{"--data-dir", c.DataDir}, args...)...)
}

// Command prepares the wherry command as a process of its own. It is killed
// when the test's context ends.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, args), args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), asCommand+"=1", "HOME="+home, "KUBECONFIG="+filepath.Join(home, "kubeconfig"))
	return cmd
}

// Kubectl runs kubectl against the cluster and returns what it printed. A
// failure fails the test.
func (c *Cluster) Kubectl(args ...string) string {
	c.t.Helper()
	cmd := c.Command(append([]string{"kubectl"}, args...)...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), complaints.String())
	}
	return out.String()
}

// Apply runs kubectl apply with a manifest.
func (c *Cluster) Apply(manifest string) string {
	c.t.Helper()
	out, err := c.TryKubectl(manifest, "apply", "-f", "-")
	if err != nil {
		c.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
	return out
}

// TryKubectl runs kubectl with input and returns both its outputs.
func (c *Cluster) TryKubectl(input string, args ...string) (string, error) {
	c.t.Helper()
	cmd := c.Command(append([]string{"kubectl"}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// Push puts a module into the cluster's registry.
func (c *Cluster) Push(ref string, wasm []byte) {
	c.t.Helper()
	if out, err := c.TryPush(ref, wasm); err != nil {
		c.t.Fatalf("push %s: %v\n%s", ref, err, out)
	}
}

// TryPush pushes a module and returns what the command printed.
func (c *Cluster) TryPush(ref string, wasm []byte) (string, error) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "module.wasm")
	if err := os.WriteFile(file, wasm, 0o600); err != nil {
		c.t.Fatal(err)
	}
	out, err := c.Command("push", file, ref).CombinedOutput()
	return string(out), err
}

// warnings keeps what the cluster logs.
type warnings struct {
	t        testing.TB
	mu       sync.Mutex
	lines    []string
	expected []string
}

func (w *warnings) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, strings.TrimSpace(string(line)))
	return len(line), nil
}

// check fails the test for what nobody has expected.
func (w *warnings) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if slices.ContainsFunc(w.expected, func(text string) bool { return strings.Contains(line, text) }) {
			w.t.Logf("cluster, as expected: %s", line)
			continue
		}
		w.t.Errorf("the cluster warned: %s", line)
	}
}
