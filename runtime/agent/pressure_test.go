package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/volume"
)

// TestDiskPressureEviction: a node that runs out of disk, or of inodes, says so,
// evicts the pod that holds most beyond what it asked for, and keeps all new
// ones away until there is room again.
func TestDiskPressureEviction(t *testing.T) {
	for _, test := range []struct {
		name, text       string
		files            int
		each             int
		disk, inodesLeft int64
	}{
		{"disk", "ephemeral-storage. Threshold quantity: 256Mi, available: 100Mi. ", 1, 64 << 10, 100 << 20, 1000},
		{"inodes", "inodes. Threshold quantity: 50, available: 20. ", 300, 1, 1 << 40, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				var disk, inodes atomic.Int64
				disk.Store(1 << 40)
				inodes.Store(1000)
				c.stop()
				c.made = func(a *agent.Agent) { a.PretendDisk(disk.Load, inodes.Load) }
				c.startAgent()
				<-c.ready
				for name, files := range map[string]int{"modest": 1, "greedy": test.files} {
					pod := newPod(name, "web")
					pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
					made := c.create(pod)
					c.waitPod(name, "is ready", isReady)
					if name == "modest" {
						continue
					}
					dir := volume.EmptyDirPath(filepath.Join(c.dir, "pods", string(made.UID)), &made.Spec.Volumes[0])
					for i := range files {
						c.must(os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, test.each), 0o600))
					}
				}
				disk.Store(test.disk)
				inodes.Store(test.inodesLeft)
				pod := c.waitPod("greedy", "is evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
				if s := pod.Status; s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: "+test.text) {
					c.Errorf("evicted with %q, %q", s.Reason, s.Message)
				}
				c.until("the node says that it is low on disk", func() bool {
					low := nodeCondition(c.node(), corev1.NodeDiskPressure)
					return low.Status == corev1.ConditionTrue && low.Reason == "KubeletHasDiskPressure"
				})
				c.create(sizedPod("late", amounts("10m", "64Mi"), nil))
				late := c.waitPod("late", "is rejected", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
				if s := late.Status; s.Reason != "Evicted" || s.Message != "Pod was rejected: The node had condition: [DiskPressure]. " {
					c.Errorf("rejected with %q, %q", s.Reason, s.Message)
				}
				disk.Store(1 << 40)
				inodes.Store(1000)
				c.until("there is room again", func() bool {
					return nodeCondition(c.node(), corev1.NodeDiskPressure).Status == corev1.ConditionFalse
				})
				c.create(newPod("next", "web"))
				c.waitPod("next", "is ready", isReady)
			})
		})
	}
}

// TestPressureEviction: a node that is low on memory says so, evicts the pod
// that uses more than it asked for, keeps new ones away that ask for nothing,
// and takes pods again when there is memory.
func TestPressureEviction(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var free atomic.Int64
		free.Store(1 << 30)
		c.stop()
		c.made = func(a *agent.Agent) { a.PretendMemory(free.Load) }
		c.startAgent()
		<-c.ready
		c.create(sizedPod("modest", amounts("10m", "64Mi"), nil))
		c.create(newPod("greedy", "web"))
		vital := newPod("vital", "web")
		vital.Spec.PriorityClassName = "system-node-critical"
		c.create(vital)
		for _, name := range []string{"modest", "greedy", "vital"} {
			c.waitPod(name, "is ready", isReady)
		}
		free.Store(50 << 20)
		pod := c.waitPod("greedy", "is evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		c.until("the node says that it is low on memory", func() bool {
			low := nodeCondition(c.node(), corev1.NodeMemoryPressure)
			return low.Status == corev1.ConditionTrue && low.Reason == "KubeletHasInsufficientMemory"
		})
		c.create(newPod("late", "web"))
		late := c.waitPod("late", "is rejected", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		free.Store(1 << 30)
		const text = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container web was using 3Mi, request is 0, has larger consumption of memory. "
		if s := pod.Status; s.Reason != "Evicted" || s.Message != text || conditionOf(pod, corev1.DisruptionTarget).Reason != corev1.PodReasonTerminationByKubelet {
			c.Errorf("evicted with %q, %q", s.Reason, s.Message)
		}
		if s := late.Status; s.Reason != "Evicted" || s.Message != "Pod was rejected: The node had condition: [MemoryPressure]. " {
			c.Errorf("rejected with %q, %q", s.Reason, s.Message)
		}
		if !isReady(c.pod("vital")) {
			c.Error("a critical pod was evicted")
		}
		c.until("there is memory again", func() bool {
			return nodeCondition(c.node(), corev1.NodeMemoryPressure).Status == corev1.ConditionFalse
		})
		c.create(newPod("next", "web"))
		c.waitPod("next", "is ready", isReady)
	})
}
