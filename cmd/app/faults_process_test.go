package app_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// upFails runs "wherry up" that must end by itself, and returns what it said:
// one line on the standard error, nothing else.
func upFails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := clustertest.Command(t, args...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || out.Len() > 0 || strings.Count(complaint.String(), "\n") != 1 {
		t.Errorf("wherry %s: %v\nstdout: %s\nstderr: %s", strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return complaint.String()
}

// TestUpRefuses: a mistake in the command line or around it ends with one line
// that says what to do.
func TestUpRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	foreign := t.TempDir()
	for _, path := range []string{file, filepath.Join(foreign, "thesis.txt")} {
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, dir string
		args      []string
		says      string
	}{
		{"unknown flag", "", []string{"up", "--bogus"}, "unknown flag: --bogus"},
		{"unknown command", "", []string{"upp"}, `unknown command "upp"`},
		{"number of nodes", "", []string{"up", "--nodes=-1"}, "--nodes is -1: want 0 to 250"},
		{"overlap", "", []string{"up", "--pod-cidr=127.32.0.0/16"}, "overlap"},
		{"autoscaling", "", []string{"up", "--horizontal-pod-autoscaler-sync-period=0s"}, "--horizontal-pod-autoscaler-sync-period is 0s: want"},
		{"log level", "", []string{"up", "--log-level=loud"}, "--log-level"},
		{"address in use", "", []string{"up", "--api-address", taken.Addr().String()}, "is in use: choose another --api-address"},
		{"no address", "", []string{"up", "--api-address=nonsense"}, "--api-address"},
		{"foreign directory", foreign, []string{"up"}, "choose an empty --data-dir"},
		{"a file", file, []string{"up"}, "data directory"},
		{"below a file", filepath.Join(file, "data"), []string{"up"}, "data directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir
			if dir == "" {
				dir = filepath.Join(t.TempDir(), "data")
			}
			if said := upFails(t, append([]string{"--data-dir", dir}, tt.args...)...); !strings.Contains(said, tt.says) {
				t.Errorf("said %q, want %q", said, tt.says)
			}
		})
	}
	if left, err := os.ReadDir(foreign); err != nil || len(left) != 1 {
		t.Errorf("the foreign directory holds %v now (%v)", left, err)
	}
}

// TestDataDirOfAnotherCluster: directories in use, or put together from two
// clusters, or with half of their certificates, are refused.
func TestDataDirOfAnotherCluster(t *testing.T) {
	one, two := clustertest.New(t, clustertest.Nodes(0)), clustertest.New(t, clustertest.Nodes(0))
	up := []string{"up", "--api-address=127.0.0.1:0", "--nodes=0"}
	if said := upFails(t, append([]string{"--data-dir", one.DataDir}, up...)...); !strings.Contains(said, "is in use by process") {
		t.Errorf("a directory in use: %s", said)
	}
	one.Stop()
	two.Stop()
	mixed, half := t.TempDir(), t.TempDir()
	for _, dir := range []string{mixed, half} {
		if err := os.CopyFS(dir, os.DirFS(one.DataDir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(mixed, "pki")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(mixed, "pki"), os.DirFS(filepath.Join(two.DataDir, "pki"))); err != nil {
		t.Fatal(err)
	}
	if said := upFails(t, append([]string{"--data-dir", mixed}, up...)...); !strings.Contains(said, "belongs to cluster") {
		t.Errorf("two clusters in one directory: %s", said)
	}
	if err := os.Remove(filepath.Join(half, "pki", "ca.key")); err != nil {
		t.Fatal(err)
	}
	if said := upFails(t, append([]string{"--data-dir", half}, up...)...); !strings.Contains(said, "restore") {
		t.Errorf("a lost key: %s", said)
	}
}

// TestKilledPodsRunAgain kills the process twice: its pods come back, the same
// ones at the same addresses, one run further, and serve.
func TestKilledPodsRunAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	networks := clustertest.Claim(t)
	_, kill := startProcess(t, networks, dir)
	module := filepath.Join(t.TempDir(), "hello.wasm")
	if err := os.WriteFile(module, samples.HelloModule, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := clustertest.Command(t, "--data-dir", dir, "push", module, "hello:v1").CombinedOutput(); err != nil {
		t.Fatalf("push: %v: %s", err, out)
	}
	apply := clustertest.Command(t, "--data-dir", dir, "kubectl", "apply", "-f", "-")
	apply.Stdin = strings.NewReader(webManifest)
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("apply: %v: %s", err, out)
	}
	before := runningPods(t, processClient(t, dir), 0)
	for round := int32(1); round <= 2; round++ {
		kill()
		var stop func()
		stop, kill = startProcess(t, networks, dir)
		client := processClient(t, dir)
		after := runningPods(t, client, round)
		for name, ip := range before {
			if after[name] != ip {
				t.Errorf("round %d: pod %s is at %q, was at %q", round, name, after[name], ip)
			}
		}
		service, err := client.CoreV1().Services("default").Get(t.Context(), "web", getOptions)
		if err != nil {
			t.Fatal(err)
		}
		answersFrom(t, clusterURL(service), 3)
		if round == 2 {
			stop()
		}
	}
}

// runningPods waits until three pods are ready in a certain run and returns
// their addresses by name.
func runningPods(t *testing.T, client *kubernetes.Clientset, restarts int32) map[string]string {
	t.Helper()
	for deadline := time.Now().Add(clustertest.Patience); ; {
		list, err := client.CoreV1().Pods("default").List(t.Context(), listOptions)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for i := range list.Items {
			if s := first(&list.Items[i]); s.Ready && s.RestartCount == restarts {
				found[list.Items[i].Name] = list.Items[i].Status.PodIP
			}
		}
		if len(found) == 3 {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("three pods with %d restarts wanted, have %v of %+v", restarts, found, statuses(list.Items))
		}
	}
}

func statuses(pods []corev1.Pod) (all []corev1.ContainerStatus) {
	for i := range pods {
		all = append(all, first(&pods[i]))
	}
	return all
}
