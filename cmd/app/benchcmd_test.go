package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// tiny makes every scenario as small as it can be.
var tiny = []string{"--repeat", "1", "--samples", "1", "--duration", "50ms", "--connections", "1,4", "--clients", "1,2",
	"--objects", "9", "--watchers", "4", "--pods", "4", "--idle", "10ms", "--nodes", "3", "--flood", "6", "--rate", "40"}

// command runs the wherry command in this process.
func command(args ...string) (out, complaints string, code int) {
	var stdout, stderr bytes.Buffer
	code = app.Main(args, app.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return stdout.String(), stderr.String(), code
}

// TestBench runs all scenarios at their smallest in a cluster of their own, and
// reads what came of it in each form.
func TestBench(t *testing.T) {
	page := filepath.Join(t.TempDir(), "report.html")
	out, complaints, code := command(append([]string{"bench", "--output", "json", "--html", page, "--dir", t.TempDir()}, tiny...)...)
	if code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, complaints, out)
	}
	report, err := result.Read(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]result.Result{}
	for _, r := range report.Results {
		names[r.Key()] = r
		if len(r.Runs) != 1 {
			t.Errorf("%s has %d repetitions, want 1", r.Key(), len(r.Runs))
		}
	}
	for _, want := range []string{
		"coldstart/part=sandbox/guest=c/step=compile", "coldstart/part=sandbox/guest=c/step=load", "coldstart/part=sandbox/guest=c/step=instantiate",
		"coldstart/part=sandbox/guest=c/step=response", "coldstart/part=pod/guest=c/from=cache", "coldstart/part=pod/guest=c/from=zero",
		"apply/guest=c", "requests/via=pod-ip/connections=4/loop=open", "requests/via=cluster-ip/connections=1/loop=closed",
		"requests/via=node-port/connections=4/loop=open", "requests/via=memory/connections=4/loop=open", "requests/via=direct/connections=4/loop=closed",
		"api/verb=create/clients=2/loop=open", "api/verb=get/clients=1/loop=closed", "api/verb=list/clients=2/loop=open", "api/verb=update/clients=2/loop=open",
		"api/verb=watch/clients=2", "apimany/verb=create/kind=pods/clients=16", "apimany/verb=get/kind=pods/clients=16/loop=closed",
		"apimany/verb=list/kind=pods/objects=9", "apimany/verb=watch/watchers=4/told=one", "apimany/verb=watch/watchers=4/told=all", "store/log=fdatasync/writers=1/loop=closed", "store/log=wherry/writers=2/loop=open",
		"churn/guest=c/step=ready", "churn/guest=c/step=gone", "density/guest=c/pods=4", "schedule/nodes=3/pods=6",
	} {
		if _, ok := names[want]; !ok {
			t.Errorf("there is no result %s", want)
		}
	}
	if len(names["density/guest=c/pods=4"].Curve) != 4 || len(names["apply/guest=c"].Steps) != 6 {
		t.Errorf("density's curve is %v, apply's steps are %v", names["density/guest=c/pods=4"].Curve, names["apply/guest=c"].Steps)
	}
	var zero []string
	for _, step := range names["coldstart/part=pod/guest=c/from=zero"].Steps {
		zero = append(zero, step.Name)
	}
	if !slices.Contains(zero, "node: compile") || zero[len(zero)-1] != "first byte" {
		t.Errorf("the steps of a pod's start are %q", zero)
	}
	if len(report.Nodes) != 1 || report.Nodes[0].Engine == "" || len(report.Skipped) != 0 {
		t.Errorf("nodes %v, skipped %v", report.Nodes, report.Skipped)
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("Where the time goes")) {
		t.Errorf("the page: %v\n%.200s", err, text)
	}
}

// TestBenchElsewhere measures a running cluster through its kubeconfig, and
// leaves nothing there.
func TestBenchElsewhere(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(2))
	args := append([]string{"--kubeconfig", c.Kubeconfig, "bench", "coldstart", "store", "--output", "go", "--dir", t.TempDir()}, tiny...)
	out, complaints, code := command(args...)
	if code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, complaints, out)
	}
	for _, want := range []string{"\nnode-2: node-2 ", "\nBenchmarkColdstart/part=pod/guest=c/from=cache/node=node-2-", "\nnoise-work: ", "\nnot-measured: store writers: "} {
		if !strings.Contains(out, want) {
			t.Errorf("the answer lacks %q:\n%s", want, out)
		}
	}
	if left := c.Kubectl("get", "namespaces", "-o", "name"); strings.Contains(left, "wherry-bench") {
		t.Errorf("namespaces are left: %s", left)
	}
	old := filepath.Join(t.TempDir(), "old.txt")
	if err := os.WriteFile(old, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	out, complaints, code = command("bench", "compare", old, old, "--output", "json")
	var comparison result.Comparison
	if err := json.Unmarshal([]byte(out), &comparison); err != nil || code != 0 || len(comparison.Changes) == 0 {
		t.Errorf("compare: code %d, %v\n%s%s", code, err, complaints, out)
	}
	out, complaints, code = command("bench", "compare", old, old, "--all")
	if code != 0 || !strings.Contains(out, "too few repetitions to tell a change from chance") {
		t.Errorf("compare: code %d\n%s%s", code, complaints, out)
	}
	// A cluster that is there but cannot run the image says so in the end; here
	// the wrong port of a good one is told at once.
	_, complaints, code = command("--kubeconfig", c.Kubeconfig, "bench", "apply", "--image", "x:v1", "--guest", "a=b")
	if code != 1 || !strings.Contains(complaints, "--image and --guest") {
		t.Errorf("code %d: %s", code, complaints)
	}
}

// TestBenchRefuses tries wrong input: it is named, and nothing is started.
func TestBenchRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.wasm")
	if err := os.WriteFile(text, []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"bench coldest", `there is no scenario "coldest": choose from coldstart, apply`},
		{"bench --output yaml", `--output "yaml": want go, table or json`},
		{"bench --repeat 0", "--repeat is 0: want 1 to"},
		{"bench --samples -1", "--samples is -1"},
		{"bench --duration 1ms", "--duration is 1ms"},
		{"bench --duration soon", `invalid argument "soon"`},
		{"bench --connections 1,0", "--connections has 0"},
		{"bench --clients 20000", "--clients has 20000"},
		{"bench --pods 0", "--pods is 0"},
		{"bench --load 1.5", "--load is 1.5"},
		{"bench --load nan", "--load is NaN"},
		{"bench --rate 0", "--rate is 0"},
		{"bench --port 70000", "--port is 70000"},
		{"bench --image x:v1", "--image is for a cluster that can pull it"},
		{"bench --guest go", "want NAME=FILE.wasm"},
		{"bench --guest Go=x.wasm", "lower-case letters"},
		{"bench --guest go=" + filepath.Join(dir, "none.wasm"), "no such file"},
		{"bench --guest go=" + text, "text.wasm"},
		{"bench --html " + filepath.Join(dir, "none", "page.html"), "--html: "},
		{"bench store --dir " + filepath.Join(dir, "none"), "--dir"},
		{"bench store --pid 999999999", "--pid: "},
		{"--data-dir " + filepath.Join(dir, "none") + " bench", "no cluster in"},
		{"--kubeconfig " + text + " bench", "read kubeconfig"},
		{"bench compare", "accepts 2 arg(s)"},
		{"bench compare " + text + " " + text, "no line of it is a benchmark's result"},
		{"bench compare " + filepath.Join(dir, "a") + " b", "no such file"},
		{"bench compare a b --output yaml", "want table or json"},
	} {
		out, complaints, code := command(strings.Fields(tt.args)...)
		if code != 1 || !strings.Contains(complaints, tt.want) || out != "" {
			t.Errorf("wherry %s: code %d, %q on stdout, says %q, want %q", tt.args, code, out, complaints, tt.want)
		}
	}
}

// TestBenchPlainKubernetes measures through a server that lets nothing pass but
// what every Kubernetes API has, by an image that the cluster has already.
func TestBenchPlainKubernetes(t *testing.T) {
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	config := c.REST()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		root, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if !slices.Contains([]string{"api", "apis", "version"}, root) {
			t.Errorf("%s %s is not Kubernetes' API", r.Method, r.URL.Path)
			http.NotFound(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(kubeconfig, []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "c"}],
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}], "clusters": [{"name": "c", "cluster": {"server": "`+server.URL+`"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--kubeconfig", kubeconfig, "bench", "coldstart", "apply", "api", "churn", "schedule", "--image", "hello:v1", "--output", "json"}, tiny...)
	out, complaints, code := command(args...)
	report, err := result.Read(strings.NewReader(out))
	if code != 0 || err != nil {
		t.Fatalf("code %d, %v\n%s\n%s", code, err, complaints, out)
	}
	names := map[string]bool{}
	for _, r := range report.Results {
		names[r.Key()] = true
	}
	for _, want := range []string{"coldstart/part=pod/guest=image/from=cache", "apply/guest=image", "api/verb=create/clients=2/loop=open", "churn/guest=image/step=ready", "schedule/nodes=3/pods=6"} {
		if !names[want] {
			t.Errorf("there is no result %s among %v", want, names)
		}
	}
}
