package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
)

// TestFullDisk fills the disk under a running cluster: writes are refused with
// an error that says why, pods serve on, nothing acknowledged is lost, and all
// goes on when there is space again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	// The store has a disk of its own: a node whose disk is full evicts pods.
	disk := filepath.Join(dir, "store")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "WHERRY"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=200m,mode=700"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	c, service := served(t, clustertest.DataDir(dir))
	c.ExpectWarnings("no space", "MiB left")
	write := func(name string) error {
		_, err := c.Clientset().CoreV1().ConfigMaps("default").Create(t.Context(),
			&corev1.ConfigMap{ObjectMeta: metaNamed(name), Data: map[string]string{"v": strings.Repeat("x", 1000)}}, createOptions)
		return err
	}
	if err := write("before"); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	err := write("refused")
	if err == nil || !strings.Contains(err.Error(), "MiB left") {
		t.Errorf("a write to a full disk: %v, want an error that tells the space left", err)
	}
	answersFrom(t, clusterURL(service), 3)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write("after"); err != nil {
		t.Errorf("a write after space was freed: %v", err)
	}
	c.Kubectl("scale", "deployment/web", "--replicas=4")
	eventually(t, c, api.Pods, "app=web", "four ready pods", ready(4))
	names := c.Kubectl("get", "configmaps", "-o", "name")
	if !strings.Contains(names, "/before") || !strings.Contains(names, "/after") || strings.Contains(names, "/refused") {
		t.Errorf("there are %s", names)
	}
}

// fill writes until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
}

// TestIdlePodsCostNothing: a hundred pods that wait for requests leave the
// process nearly still, once it has told everybody of their start. The figure
// is logged; what is asserted is far above it, because the machine may be busy
// with other tests.
func TestIdlePodsCostNothing(t *testing.T) {
	c, _ := served(t)
	c.Kubectl("scale", "deployment/web", "--replicas=100")
	eventually(t, c, api.Pods, "app=web", "a hundred ready pods", ready(100))
	const window = 3 * time.Second
	for deadline := time.Now().Add(clustertest.Patience); ; {
		before := cpuTime(t)
		<-time.After(window) // the measurement itself
		share := float64(cpuTime(t)-before) / float64(window)
		t.Logf("100 idle pods: %.2f %% of a core over %v", 100*share, window)
		if share <= 0.5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("100 idle pods take %.0f %% of a core", 100*share)
		}
	}
	c.Kubectl("delete", "deployment/web", "service/web")
	eventually(t, c, api.Pods, "app=web", "no pod", func(left map[string]api.Object) bool { return len(left) == 0 })
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(fmt.Errorf("getrusage: %w", err))
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
