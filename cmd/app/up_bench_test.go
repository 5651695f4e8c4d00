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

// BenchmarkUp is the start of a cluster as a process, until its node is ready:
// in an empty directory, and after kill -9 on one with 100,000 ConfigMaps.
func BenchmarkUp(b *testing.B) {
	program := filepath.Join(b.TempDir(), "wherry")
	if out, err := exec.Command("go", "build", "-o", program, "wherry.dev/wherry/cmd/wherry").CombinedOutput(); err != nil {
		b.Fatalf("build the command: %v\n%s", err, out)
	}
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
	})
}

// benchUp starts a cluster and waits until it says that its node is ready. It
// returns the resident memory then, in MB; 0 where that cannot be known.
func benchUp(b *testing.B, program string, networks clustertest.Networks, dir string) (kill func(), resident float64) {
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
	kill = func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait() // "killed"
	}
	if !ready {
		kill()
		b.Fatal("the cluster did not start")
	}
	return kill, residentMB(cmd.Process.Pid)
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
	return kb / 1000
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
