package app_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// idleAfter is how long a cluster is left alone before its memory counts as that
// of an idle one: longer than it takes to tidy up after its start.
const idleAfter = 20 * time.Second

// BenchmarkUp is the start of a cluster as a process, until its node is ready:
// in an empty directory, and after kill -9 on one with 100,000 ConfigMaps. Its
// memory is read when the node is ready and, of one more start, when the cluster
// has been left alone.
func BenchmarkUp(b *testing.B) {
	program := filepath.Join(b.TempDir(), "wherry")
	if out, err := exec.Command("go", "build", "-o", program, "wherry.dev/wherry/cmd/wherry").CombinedOutput(); err != nil {
		b.Fatalf("build the command: %v\n%s", err, out)
	}
	forgetCached(b, program)
	b.Run("empty", func(b *testing.B) {
		networks := clustertest.Claim(b)
		for b.Loop() {
			b.StopTimer()
			dir := b.TempDir()
			b.StartTimer()
			kill, resident := benchUp(b, program, networks, dir)
			b.StopTimer()
			b.ReportMetric(resident, "MB")
			kill()
			b.StartTimer()
		}
		reportIdle(b, program, networks, b.TempDir())
	})
	b.Run("objects=100000", func(b *testing.B) {
		networks, dir := clustertest.Claim(b), b.TempDir()
		kill, _ := benchUp(b, program, networks, dir)
		manyConfigMaps(b, dir, 100_000)
		kill()
		for b.Loop() {
			kill, resident := benchUp(b, program, networks, dir)
			b.StopTimer()
			b.ReportMetric(resident, "MB")
			kill()
			b.StartTimer()
		}
		reportIdle(b, program, networks, dir)
	})
}

func reportIdle(b *testing.B, program string, networks clustertest.Networks, dir string) {
	b.Helper()
	cmd := startUp(b, program, networks, dir)
	time.Sleep(idleAfter)
	b.ReportMetric(residentMB(cmd.Process.Pid), "MB-idle")
	killUp(cmd)
}

// benchUp starts a cluster and waits until it says that its node is ready. It
// returns the resident memory then, in MB; 0 where that cannot be known.
func benchUp(b *testing.B, program string, networks clustertest.Networks, dir string) (kill func(), resident float64) {
	b.Helper()
	cmd := startUp(b, program, networks, dir)
	return func() { killUp(cmd) }, residentMB(cmd.Process.Pid)
}

func startUp(b *testing.B, program string, networks clustertest.Networks, dir string) *exec.Cmd {
	b.Helper()
	cmd := clustertest.Command(b, "--data-dir", dir, "up", "--api-address", "127.0.0.1:0", "--no-kubeconfig", "--service-cidr", networks.Services.String(),
		"--pod-cidr", networks.Pods.String(), "--node-port-address", networks.NodePorts.String())
	cmd.Path = program // as it is used, without the tests in it
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	ready := false
	for lines := bufio.NewScanner(out); !ready && lines.Scan(); {
		ready = strings.Contains(lines.Text(), " ready in ")
	}
	if !ready {
		killUp(cmd)
		b.Fatal("the cluster did not start")
	}
	return cmd
}

func killUp(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait() // "killed"
}

func residentMB(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseFloat(strings.Fields(after + " 0")[0], 64)
	if err != nil {
		return 0
	}
	return kb * 1024 / 1e6
}

// manyConfigMaps creates ConfigMaps by 64 clients.
func manyConfigMaps(b *testing.B, dir string, count int) {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "admin.kubeconfig"))
	if err != nil {
		b.Fatal(err)
	}
	config.QPS, config.ContentType = -1, "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	var group sync.WaitGroup
	began := time.Now()
	for worker := range 64 {
		group.Go(func() {
			for i := worker; i < count; i += 64 {
				object := &corev1.ConfigMap{ObjectMeta: metaNamed(fmt.Sprintf("many-%d", i)), Data: map[string]string{"n": strconv.Itoa(i)}}
				if _, err := client.CoreV1().ConfigMaps(corev1.NamespaceDefault).Create(b.Context(), object, createOptions); err != nil {
					b.Errorf("create: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	b.Logf("%d creates/s", int(float64(count)/time.Since(began).Seconds()))
}
