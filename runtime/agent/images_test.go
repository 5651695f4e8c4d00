package agent_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/image"
)

// onDisk runs a test with a node whose disk has so many bytes free as the test
// says.
func onDisk(t *testing.T, configure func(*agent.Config), test func(c *cluster, free *atomic.Int64)) {
	inConfigured(t, configure, func(c *cluster) {
		var free atomic.Int64
		free.Store(agent.PretendedDisk)
		c.stop()
		c.made = func(a *agent.Agent) { a.PretendDisk(free.Load, func() int64 { return 1000 }) }
		c.startAgent()
		<-c.ready
		test(c, &free)
	})
}

// collect is what the store of images does from now on to make room.
func (c *cluster) collect(do func(image.Need) (int64, error)) {
	c.images.mu.Lock()
	defer c.images.mu.Unlock()
	c.images.collect = do
}

// TestUnusedImagesGo: a disk that is used to 85 hundredths has unused images
// removed down to 80, every five minutes; when that does not do, the node says
// so, and the second time that it has failed.
func TestUnusedImagesGo(t *testing.T) {
	onDisk(t, nil, func(c *cluster, free *atomic.Int64) {
		needs := make(chan image.Need, 10)
		var share atomic.Int64 // the part of what is needed that is found
		share.Store(2)
		c.collect(func(need image.Need) (int64, error) {
			needs <- need
			freed := need.Bytes / share.Load()
			free.Add(freed)
			return freed, nil
		})
		free.Store(agent.PretendedDisk * 17 / 100)
		time.Sleep(6 * time.Minute)
		if len(needs) != 0 {
			c.Errorf("images removed from a disk with room: %+v", <-needs)
		}
		free.Store(agent.PretendedDisk / 10)
		time.Sleep(5 * time.Minute)
		if got, want := <-needs, (image.Need{Bytes: agent.PretendedDisk / 10, MinAge: 2 * time.Minute}); got != want {
			c.Fatalf("needed %+v, want %+v", got, want)
		}
		const text = "FreeDiskSpaceFailed: Insufficient free disk space on the node's image filesystem (90% of 10.0 GiB used). " +
			"Failed to free sufficient space by deleting unused images (freed 536870912 bytes). "
		c.waitEvent(nodeName, text)
		if all := strings.Join(c.events(nodeName), "\n"); strings.Contains(all, "ImageGCFailed") {
			c.Errorf("a single failure is told twice:\n%s", all)
		}
		free.Store(agent.PretendedDisk / 10)
		time.Sleep(5 * time.Minute)
		c.waitEvent(nodeName, "ImageGCFailed: Insufficient free disk space")
		free.Store(agent.PretendedDisk / 10)
		share.Store(1)
		time.Sleep(5 * time.Minute)
		if got := free.Load(); len(needs) != 2 || got != agent.PretendedDisk/5 {
			c.Errorf("%d collections, %d bytes free", len(needs), got)
		}
	})
}

// TestImagesStayOnRequest: a threshold of 100 turns the collection off.
func TestImagesStayOnRequest(t *testing.T) {
	keep := func(config *agent.Config) { config.ImageGC = agent.ImageGC{High: 100, Low: 80} }
	onDisk(t, keep, func(c *cluster, free *atomic.Int64) {
		c.collect(func(need image.Need) (int64, error) {
			c.Errorf("images are collected: %+v", need)
			return 0, nil
		})
		free.Store(agent.PretendedDisk / 20)
		time.Sleep(time.Hour)
	})
}

// TestImagesGoBeforePods: a node that is short of disk removes what nobody uses
// first, and evicts nobody when that is enough.
func TestImagesGoBeforePods(t *testing.T) {
	onDisk(t, nil, func(c *cluster, free *atomic.Int64) {
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		c.collect(func(need image.Need) (int64, error) {
			if need.Bytes != math.MaxInt64 {
				return 0, nil
			}
			free.Store(agent.PretendedDisk / 2)
			return agent.PretendedDisk / 2, nil
		})
		free.Store(100 << 20)
		c.waitEvent(nodeName, "EvictionThresholdMet: Attempting to reclaim ephemeral-storage")
		time.Sleep(time.Minute)
		if pod := c.pod("web"); !isReady(pod) {
			c.Errorf("evicted: %+v", pod.Status)
		}
	})
}

// TestImagesInUse: what the store must keep for a node: the images of all that
// may still run, by name and as they were when they were started.
func TestImagesInUse(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["done"] = exits(0)
		over := newPod("over", "done")
		over.Spec.RestartPolicy = corev1.RestartPolicyNever
		over.Spec.Containers[0].Image = "app:v2"
		c.create(over)
		c.waitPod("over", "has ended", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
		pod := newPod("web", "web")
		pod.Spec.Volumes = []corev1.Volume{{Name: "files", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "files:v1", PullPolicy: corev1.PullIfNotPresent}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "files", MountPath: "/files"}}
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		c.images.mu.Lock()
		user := c.images.user
		c.images.mu.Unlock()
		images, known := user.InUse()
		slices.Sort(images)
		if got, want := fmt.Sprint(images, known), "[app:v1 files:v1 sha256:0123] true"; got != want {
			c.Errorf("in use: %s, want %s", got, want)
		}
	})
}

// TestNodeImages: the node's status names what is on it, the largest first.
func TestNodeImages(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.images.mu.Lock()
		c.images.kept = []image.Kept{
			{Digest: "sha256:aa", Refs: []string{"big:v1", "big:v2", "host:5000/big:v1"}, Bytes: 300},
			{Digest: "sha256:bb", Refs: []string{"small@sha256:bb"}, Bytes: 20},
			{Digest: "sha256:cc", Bytes: 10},
		}
		c.images.mu.Unlock()
		const want = "[big@sha256:aa host:5000/big@sha256:aa big:v1 big:v2 host:5000/big:v1] 300, [small@sha256:bb] 20, [] 10"
		c.until("the node's images are shown", func() bool {
			var got []string
			for _, i := range c.node().Status.Images {
				got = append(got, fmt.Sprint(i.Names, " ", i.SizeBytes))
			}
			return strings.Join(got, ", ") == want
		})
		c.images.mu.Lock()
		c.images.kept = nil
		c.images.mu.Unlock()
		c.until("they are shown no more", func() bool { return len(c.node().Status.Images) == 0 })
	})
}

func TestImageGCCheck(t *testing.T) {
	for want, g := range map[string]agent.ImageGC{
		"": {High: 90, Low: 10, MinAge: time.Hour},
		"imageGCHighThresholdPercent 101: want 0 to 100":                                      {High: 101},
		"imageGCLowThresholdPercent -1: want 0 to 100":                                        {High: 50, Low: -1},
		"imageGCLowThresholdPercent 80: want less than the 80 of imageGCHighThresholdPercent": {High: 80, Low: 80},
		"imageMinimumGCAge -1s: want 0s or more":                                              {MinAge: -time.Second},
	} {
		got := ""
		if err := g.Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", g, got, want)
		}
	}
}
