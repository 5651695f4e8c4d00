package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// manyPods is how many pods start at once; WHERRY_PODS=1000 is the full size.
func manyPods(tb testing.TB) int {
	text := os.Getenv("WHERRY_PODS")
	if text == "" {
		return 60
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal("WHERRY_PODS: ", err)
	}
	return n
}

// TestManyPodsAtOnce starts many pods at once on one node and deletes them at
// once: all become ready, all go, and nothing of them is left in the process or
// on the disk.
func TestManyPodsAtOnce(t *testing.T) {
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	n := manyPods(t)
	startMany(t, c, n) // what is made once and kept, and the heap at its largest
	deleteMany(t, c, n)
	before := held(t)
	startMany(t, c, n)
	deleteMany(t, c, n)
	var after resources
	for range 200 { // the last guests' ends are told before all of them is freed
		runtime.GC()
		if after = held(t); after.within(before) {
			break
		}
		startMany(t, c, 1)
		deleteMany(t, c, 1)
	}
	if !after.within(before) {
		t.Errorf("before %+v, after %d pods %+v", before, n, after)
	}
	for _, dir := range []string{"pods", "logs", "messages"} {
		var left []os.DirEntry
		for deadline := time.Now().Add(clustertest.Patience); ; runtime.Gosched() { // they go after the API has been told
			var err error
			if left, err = os.ReadDir(filepath.Join(c.DataDir, "nodes", "node-1", dir)); err != nil {
				t.Fatal(err)
			}
			if len(left) == 0 || time.Now().After(deadline) {
				break
			}
		}
		if len(left) > 0 {
			t.Errorf("left behind in %s: %v", dir, left)
		}
	}
}

// BenchmarkManyPodsAtOnce is the same in figures: how long it takes until all
// are ready and until all are gone, and what memory they take meanwhile.
func BenchmarkManyPodsAtOnce(b *testing.B) {
	c := clustertest.New(b)
	c.Push("hello:v1", samples.HelloModule)
	n := manyPods(b)
	startMany(b, c, n)
	deleteMany(b, c, n)
	var up, down time.Duration
	var empty, full, left uint64
	for b.Loop() {
		empty = inUse()
		began := time.Now()
		startMany(b, c, n)
		up += time.Since(began)
		full = inUse()
		began = time.Now()
		deleteMany(b, c, n)
		down += time.Since(began)
		left = inUse()
	}
	pods := float64(n * b.N)
	b.ReportMetric(float64(n), "pods")
	b.ReportMetric(up.Seconds()/float64(b.N), "s-until-ready")
	b.ReportMetric(down.Seconds()/float64(b.N), "s-until-gone")
	b.ReportMetric(pods/up.Seconds(), "pods/s")
	b.ReportMetric(float64(int64(full)-int64(empty))/float64(n), "B/pod")
	b.ReportMetric(float64(left)/(1<<20), "MiB-heap-left")
}

// inUse is what the process' heap holds, in bytes. It has the API server's
// history of all that happened, which is bounded, and the guests' memory is
// beside it.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// startMany makes pods and waits until all are ready.
func startMany(t testing.TB, c *clustertest.Cluster, n int) {
	t.Helper()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			pod := &corev1.Pod{ObjectMeta: metaNamed(fmt.Sprintf("many-%d", i)), Spec: corev1.PodSpec{
				TerminationGracePeriodSeconds: new(int64(1)),
				Volumes:                       []corev1.Volume{*memoryVolume()},
				Containers: []corev1.Container{{Name: "web", Image: "hello:v1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
					VolumeMounts: []corev1.VolumeMount{{Name: "memory", MountPath: "/memory"}}}}}}
			pod.Namespace, pod.Labels = "default", map[string]string{"app": "many"}
			if _, err := c.Client.Create(t.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	eventually(t, c, api.Pods, "app=many", "all pods to be ready", ready(n))
}

func deleteMany(t testing.TB, c *clustertest.Cluster, n int) {
	t.Helper()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if _, err := c.Client.Delete(t.Context(), api.Pods.Key("default", fmt.Sprintf("many-%d", i)), api.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	eventually(t, c, api.Pods, "app=many", "all pods to be gone", func(pods map[string]api.Object) bool { return len(pods) == 0 })
}

// resources are what a process holds.
type resources struct{ goroutines, files, mappings int }

// within allows for what the process does beside its pods.
func (r resources) within(o resources) bool {
	return r.goroutines <= o.goroutines+8 && r.files <= o.files+8 && r.mappings <= o.mappings+32
}

// Threads are left out of the mappings: the runtime keeps each that it ever
// made, with a stack and a guard page, and it makes some dozens when a thousand
// pods write to the disk at once.
func held(t *testing.T) resources {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not tell what this process holds: ", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return resources{runtime.NumGoroutine(), len(files), strings.Count(string(maps), "\n") - 2*len(threads)}
}
