package app_test

import (
	"bufio"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app/clustertest"
)

var (
	createOptions = metav1.CreateOptions{}
	listOptions   = metav1.ListOptions{}
	getOptions    = metav1.GetOptions{}
)

func metaNamed(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// startProcess runs "wherry up" as a process until its node is ready. stop
// ends it as a user would, kill as kill -9 does.
func startProcess(t *testing.T, networks clustertest.Networks, dir string, flags ...string) (stop, kill func()) {
	t.Helper()
	cmd := clustertest.Command(t, append([]string{"--data-dir", dir, "up", "--api-address", "127.0.0.1:0",
		"--service-cidr", networks.Services.String(), "--pod-cidr", networks.Pods.String(),
		"--node-port-address", networks.NodePorts.String()}, flags...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Try next") {
			break
		}
	}
	go func() {
		for lines.Scan() {
		}
		ended <- cmd.Wait()
	}()
	end := func(signal syscall.Signal) error {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Errorf("signal: %v\n%s", err, complaints.String())
		}
		return <-ended
	}
	stop = func() {
		t.Helper()
		if err := end(syscall.SIGTERM); err != nil {
			t.Errorf("wherry up ended with %v\n%s", err, complaints.String())
		}
	}
	kill = func() { _ = end(syscall.SIGKILL) }
	return stop, kill
}

// processClient is client-go's client for a cluster that is another process.
func processClient(t *testing.T, dir string) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
