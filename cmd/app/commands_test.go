package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestCommands runs the scripts of testdata/commands: what people do with
// wherry's own commands against a running cluster.
func TestCommands(t *testing.T) {
	c := clustertest.New(t)
	c.Push("said:v1", printerModule("one\ntwo\n", 0))
	bin := t.TempDir()
	command := clustertest.Command(t, "status")
	script := fmt.Sprintf("#!/bin/sh\n%s exec '%s' --kubeconfig \"$KUBECONFIG\" \"$@\"\n", commandVariable(command.Env), command.Path)
	if err := os.WriteFile(filepath.Join(bin, "wherry"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/commands", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("KUBECONFIG", c.Kubeconfig)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until},
	})
}

// run runs a command to its end and returns what it printed and its code.
func run(t *testing.T, stdin string, args ...string) (out, complaints string, code int) {
	t.Helper()
	cmd := clustertest.Command(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env = append(cmd.Env, "KUBECONFIG="+os.Getenv("KUBECONFIG"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// TestReset deletes a cluster and its context, but not while it runs, not
// without being asked twice, and nothing that is no cluster's.
func TestReset(t *testing.T) {
	dir, kubeconfig := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "config")
	t.Setenv("KUBECONFIG", kubeconfig)
	if out, complaints, code := run(t, "", "--data-dir", t.TempDir(), "reset", "--yes"); code != 1 || !strings.Contains(complaints, "holds no cluster") {
		t.Errorf("an empty directory: code %d, %s%s", code, out, complaints)
	}
	stop, _ := startProcess(t, clustertest.Claim(t), dir)
	config, err := clientcmd.LoadFromFile(filepath.Join(dir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	if out, complaints, code := run(t, "", "--data-dir", dir, "reset", "--yes"); code != 1 || !strings.Contains(complaints, "is in use by process") {
		t.Errorf("a running cluster: code %d, %s%s", code, out, complaints)
	}
	out, complaints, code := run(t, "", "--data-dir", dir, "doctor", "--output", "json")
	var findings []struct{ Check, State, Found string }
	if err := json.Unmarshal([]byte(out), &findings); err != nil || code != 0 {
		t.Errorf("doctor: code %d, %v\n%s%s", code, err, out, complaints)
	}
	if !strings.Contains(out, "its cluster runs") || !strings.Contains(out, "is served by this cluster") {
		t.Errorf("doctor does not see that the cluster runs:\n%s", out)
	}
	stop()
	for answer, want := range map[string]string{"": "use --yes", "\n": "Nothing was deleted", "n\n": "Nothing was deleted"} {
		if out, complaints, _ := run(t, answer, "--data-dir", dir, "reset"); !strings.Contains(out+complaints, want) {
			t.Errorf("answer %q: %s%s", answer, out, complaints)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	if out, complaints, code := run(t, "y\n", "--data-dir", dir, "reset"); code != 0 {
		t.Fatalf("reset: code %d, %s%s", code, out, complaints)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the data directory is still there: %v", err)
	}
	if config, err := clientcmd.LoadFromFile(kubeconfig); err != nil || len(config.Contexts) != 0 {
		t.Errorf("the kubeconfig still has %v, %v", config, err)
	}
}
