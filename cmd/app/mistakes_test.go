package app

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMistakes: what people type wrong is answered by the cause and what to do,
// on standard error, with code 1. Nothing is started.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Chdir(dir)
	for name, text := range map[string]string{"garbage.wasm": "text", "component.wasm": "\x00asm\x0d\x00\x01\x00", "broken": "this is: [not",
		"unknown.yaml": "nodez: 3\n", "program.wasm": exitModule, "away": awayKubeconfig} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const noCluster = `start one with "wherry up"`
	for _, test := range []struct{ line, want string }{
		{"statsu", `unknown command "statsu"; see "wherry --help"`},
		{"up extra", `see "wherry up --help"`},
		{"up --bogus", `unknown flag: --bogus; see "wherry up --help"`},
		{"up --nodes many", `"--nodes" flag`},
		{"up --nodes -1", "--nodes is -1: want 0 to 250"},
		{"up --service-cidr 10.0.0.0/8", "is not a network inside 127.0.0.0/8"},
		{"up --pod-cidr 127.32.0.0/12", "overlap"},
		{"up --node-port-address here", "--node-port-address"},
		{"up --log-level loud", "want debug, info, warn or error"},
		{"up --audit-level All", "--audit-level"},
		{"up --config none.yaml", "--config: open none.yaml"},
		{"up --config unknown.yaml", `unknown.yaml:1:1: unknown setting "nodez"`},
		{"server --service-cidr nonsense", "--service-cidr"},
		{"node", "--server is missing: say where"},
		{"node --server nonsense --token abcdef.0123456789abcdef", "is not like https://HOST:6443"},
		{"node --server https://127.0.0.1:1", "--token is missing"},
		{"node --server https://127.0.0.1:1 --token x", `--token is not a token of "wherry token create"`},
		{"node --server https://127.0.0.1:1 --name Ä", `--name "ä"`},
		{"node --server https://127.0.0.1:1 --label x", `--label "x" is not NAME=value`},
		{"push", "usage: wherry push FILE.wasm NAME:TAG"},
		{"push none.wasm x:v1", "none.wasm: no such file"},
		{"push garbage.wasm x:v1", "not a WebAssembly module"},
		{"push component.wasm x:v1", "build a core module"},
		{"push program.wasm x:v1", noCluster},
		{"--kubeconfig broken push program.wasm x:v1", "name another with --kubeconfig"},
		{"--kubeconfig none push program.wasm x:v1", "name another with --kubeconfig"},
		{"--kubeconfig away push program.wasm x:v1", "is the cluster running?"},
		{"dev none", "no such file"},
		{"dev broken", "neither a directory nor a .wasm file"},
		{"dev .", `or run "wherry new"`},
		{"dev program.wasm", noCluster},
		{"--kubeconfig away dev --once program.wasm", "is the cluster running?"},
		{"run", "usage: wherry run"},
		{"run none.wasm", "none.wasm: no such file"},
		{"run --listen nonsense program.wasm", "--listen nonsense"},
		{"inspect none.wasm", "none.wasm"},
		{"new", "usage: wherry new KIND DIRECTORY"},
		{"new rust x", "there are:\n  c "},
		{"new go .", "is not empty: choose another directory"},
		{"new go broken/x", "choose another"},
		{"bench nosuch", "choose from coldstart"},
		{"bench --repeat 0", "--repeat is 0: want 1 to"},
		{"bench --output xml", "--output"},
		{"bench --kubeconfig away api", "is the cluster running?"},
		{"bench compare none none", "open none"},
		{"bench compare", "usage: wherry bench compare"},
		{"status", noCluster},
		{"--kubeconfig away status", `is "wherry up" running?`},
		{"status --output xml", "want table or json"},
		{"top", noCluster},
		{"--kubeconfig away top", "is the cluster running?"},
		{"logs app", noCluster},
		{"--kubeconfig away logs app", "is the cluster running?"},
		{"logs app --since yesterday", `"--since" flag`},
		{"kubeconfig", noCluster},
		{"dashboard", noCluster},
		{"token create", noCluster},
		{"token create --ttl x", `see "wherry token create --help"`},
		{"reset", "nothing was deleted"},
	} {
		var out, errs bytes.Buffer
		code := Main(strings.Fields(test.line), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		said := errs.String()
		if code != 1 || !strings.Contains(said, test.want) || strings.Contains(said, "panic") {
			t.Errorf("wherry %s: code %d, want %q\n%s%s", test.line, code, test.want, out.String(), said)
		}
	}
}

// awayKubeconfig names a server that is not there.
const awayKubeconfig = `
apiVersion: v1
kind: Config
current-context: away
contexts: [{name: away, context: {cluster: away, user: away}}]
clusters: [{name: away, cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}}]
users: [{name: away, user: {token: x}}]
`
