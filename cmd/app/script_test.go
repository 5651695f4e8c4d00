package app_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// TestKubectl runs the scripts of testdata/script against one cluster, each in
// a namespace of its own: once with kubectl as it is built in, once, where
// there is one, with the kubectl of this machine, which is another version, and
// a part of them with one that is two minor versions older than what is built
// in. Under the race detector the first of these has to do.
//
// In the scripts $NS is the namespace. Beside testscript's own commands there
// is "until PATTERN command...": it repeats a command until its output matches.
func TestKubectl(t *testing.T) {
	t.Parallel()
	c := clustertest.New(t, func(c *app.Config) { c.Autoscaling.Period = 5 * time.Second })
	c.Push("hello:v1", samples.HelloModule)
	c.Push("hello:v2", append(append([]byte{}, samples.HelloModule...), 0, 3, 1, 'v', '2'))
	c.Push("said:v1", printerModule("one\ntwo\nthree\n", 0))
	c.Push("failed:v1", printerModule("going down\n", 3))
	c.Push("spin:v1", spinModule)

	t.Run("builtin", func(t *testing.T) { t.Parallel(); runScripts(t, c, "testdata/script", "builtin", builtinKubectl(t)) })
	if clustertest.Race {
		return // other versions of kubectl show nothing of the server's races that the first one has not
	}
	if bin := installedKubectl(t); bin != "" {
		t.Run("installed", func(t *testing.T) { t.Parallel(); runScripts(t, c, "testdata/script", "installed", bin) })
	}
	t.Run("older", func(t *testing.T) {
		t.Parallel()
		var files []string
		for _, name := range olderRuns {
			files = append(files, filepath.Join("testdata", "script", name+".txt"))
		}
		runFiles(t, c, testscript.Params{Files: files}, "older", olderKubectl(t))
	})
}

// olderRuns are the scripts in which versions of kubectl ask for different
// things: how they find kinds, patch, watch, wait and stream.
var olderRuns = []string{"apply", "create", "custom", "discover", "get", "rollout", "serverside", "watch"}

// olderKubectl builds kubectl of another minor version, from a module of its
// own: two versions of what it is made of cannot be in one.
func olderKubectl(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-ldflags=-X k8s.io/component-base/version.gitVersion=v1.35.10", "-o", filepath.Join(bin, "kubectl"), ".")
	build.Dir = filepath.Join("testdata", "kubectl", "tool")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build an older kubectl; its modules must be on this machine or reachable: %v\n%s", err, out)
	}
	return bin
}

// TestNodeScripts runs what takes nodes away from others, on a cluster of its
// own.
func TestNodeScripts(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(2))
	c.Push("hello:v1", samples.HelloModule)
	runScripts(t, c, "testdata/nodes", "nodes", builtinKubectl(t))
}

// installedKubectl returns a directory with the kubectl of this machine, "" when
// there is none.
func installedKubectl(t *testing.T) string {
	t.Helper()
	installed, err := exec.LookPath("kubectl")
	if err != nil {
		t.Log("this machine has no kubectl: only the built-in one is tested")
		return ""
	}
	bin := t.TempDir()
	if err := os.Symlink(installed, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	return bin
}

// builtinKubectl returns a directory with a kubectl that is this test's binary.
func builtinKubectl(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	command := clustertest.Command(t, "kubectl")
	script := fmt.Sprintf("#!/bin/sh\n%s exec '%s' --kubeconfig \"$KUBECONFIG\" kubectl \"$@\"\n", commandVariable(command.Env), command.Path)
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return bin
}

// commandVariable finds what makes the test binary act as the command.
func commandVariable(env []string) string {
	for _, entry := range env {
		if strings.HasPrefix(entry, "WHERRY_CLUSTERTEST") {
			return entry
		}
	}
	return ""
}

// runScripts runs the scripts of a directory; variables are NAME=value for them.
func runScripts(t *testing.T, c *clustertest.Cluster, dir, who, bin string, variables ...string) {
	runFiles(t, c, testscript.Params{Dir: dir}, who, bin, variables...)
}

// runFiles runs the scripts that some names.
func runFiles(t *testing.T, c *clustertest.Cluster, some testscript.Params, who, bin string, variables ...string) {
	testscript.Run(t, testscript.Params{
		Dir: some.Dir, Files: some.Files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			script := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			namespace := who + "-" + script
			kubeconfig := filepath.Join(env.WorkDir, ".kubeconfig")
			if err := newNamespace(t, c, namespace, kubeconfig); err != nil {
				return err
			}
			env.Setenv("KUBECONFIG", kubeconfig)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("NS", namespace)
			env.Setenv("WHO", who)
			env.Vars = append(env.Vars, variables...)
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			return nil
		},
		Condition: func(cond string) (bool, error) { return cond == who, nil },
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"until": until},
	})
}

// newNamespace makes a namespace and a kubeconfig that points at it.
func newNamespace(t *testing.T, c *clustertest.Cluster, namespace, kubeconfig string) error {
	_, err := c.Client.Create(t.Context(), api.Namespaces.Key("", namespace),
		&corev1.Namespace{ObjectMeta: metaNamed(namespace)}, api.CreateOptions{})
	if err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return err
	}
	config.Contexts[config.CurrentContext].Namespace = namespace
	return clientcmd.WriteToFile(*config, kubeconfig)
}

// printerModule is a guest that prints a text and exits:
//
//	(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
//	(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
//	(func (export "_start") (drop (call 0 (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (call 1 (i32.const CODE)))
//	(data (i32.const 0) IOVEC) (data (i32.const 16) TEXT)
func printerModule(text string, code byte) []byte {
	named := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, parts ...[]byte) []byte {
		var body []byte
		for _, part := range parts {
			body = append(body, part...)
		}
		return append([]byte{id, byte(len(body))}, body...)
	}
	wasi := named("wasi_snapshot_preview1")
	body := []byte{0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a, 0x41, code, 0x10, 1, 0x0b}
	module := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	module = append(module, section(1, []byte{3, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 0, 0x60, 0, 0})...)
	module = append(module, section(2, []byte{2}, wasi, named("fd_write"), []byte{0, 0}, wasi, named("proc_exit"), []byte{0, 1})...)
	module = append(module, section(3, []byte{1, 2})...)
	module = append(module, section(5, []byte{1, 0, 1})...)
	module = append(module, section(7, []byte{2}, named("memory"), []byte{2, 0}, named("_start"), []byte{0, 2})...)
	module = append(module, section(10, []byte{1, byte(len(body))}, body)...)
	return append(module, section(11, []byte{2, 0, 0x41, 0, 0x0b, 8, 16, 0, 0, 0, byte(len(text)), 0, 0, 0, 0, 0x41, 16, 0x0b}, named(text))...)
}
