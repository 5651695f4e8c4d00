package app_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestUpMistakes: a cluster that cannot start says why and what to do, and
// leaves what is not its own alone.
func TestUpMistakes(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	running := clustertest.New(t, clustertest.Nodes(0))
	for name, text := range map[string]string{"file": "x", "scheduler.yaml": "x", filepath.Join("full", "letter"): "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		data string
		args []string
		want string
	}{
		{"a", []string{"--api-address", taken.Addr().String()}, "is in use: choose another --api-address"},
		{"b", []string{"--api-address", "nonsense"}, "want HOST:PORT"},
		{running.DataDir, nil, "is in use by process"},
		{"full", nil, "holds files but no Wherry cluster: choose an empty --data-dir"},
		{filepath.Join("file", "x"), nil, "choose another with --data-dir"},
		{"c", []string{"--encryption-key-file", filepath.Join(dir, "none")}, "restore it from a backup"},
		{"d", []string{"--audit-log-path", filepath.Join(dir, "none", "log")}, "--audit-log-path"},
		{"e", []string{"--otlp-endpoint", "nonsense"}, "is not a URL such as http://127.0.0.1:4318"},
		{"f", []string{"--scheduler-config", filepath.Join(dir, "scheduler.yaml")}, "--scheduler-config: "},
		{"f", []string{"--scheduler-config", filepath.Join(dir, "scheduler.yaml")}, "scheduler.yaml:1:1"},
		{"g", []string{"--service-cidr", "127.32.0.0/31"}, "--service-cidr 127.32.0.0/31 has no room for Services"},
	} {
		data := test.data
		if !filepath.IsAbs(data) {
			data = filepath.Join(dir, data)
		}
		args := append([]string{"--data-dir", data, "up", "--no-kubeconfig", "--nodes", "0"}, test.args...)
		if len(test.args) == 0 || test.args[0] != "--api-address" {
			args = append(args, "--api-address", "127.0.0.1:0")
		}
		if out, complaints, code := run(t, "", args...); code != 1 || !strings.Contains(complaints, test.want) {
			t.Errorf("%s: code %d, want %q\n%s%s", args, code, test.want, out, complaints)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "full")); err != nil || len(left) != 1 {
		t.Errorf("the directory of somebody else has %v, %v", left, err)
	}
}
