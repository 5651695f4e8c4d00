package agent_test

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/sandbox"
)

func TestPodRunsAndIsDeleted(t *testing.T) {
	inCluster(t, func(c *cluster) {
		made := c.create(newPod("web", "web"))
		pod := c.waitPod("web", "is ready", isReady)
		s := pod.Status.ContainerStatuses[0]
		if pod.Status.Phase != corev1.PodRunning || !s.Ready || s.Started == nil || !*s.Started || s.RestartCount != 0 ||
			s.ImageID != "sha256:0123" || s.State.Running == nil || len(s.ContainerID) != len("wasm://")+64 {
			c.Errorf("status %+v", pod.Status)
		}
		if pod.Status.PodIP != "127.64.1.1" || pod.Status.HostIP != "127.0.0.1" || pod.Status.StartTime == nil {
			c.Errorf("addresses %q %q", pod.Status.PodIP, pod.Status.HostIP)
		}
		for _, kind := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodScheduled} {
			if conditionOf(pod, kind).Status != corev1.ConditionTrue {
				c.Errorf("condition %s is %+v", kind, conditionOf(pod, kind))
			}
		}
		c.waitEvent("web", "Started: Container started")
		c.waitEvent("web", `Pulled: Container image "app:v1" already present on machine`)
		if n := c.api.writes.Load(); made.UID != pod.UID || n != 1 {
			c.Errorf("%d status writes until the pod was ready, want 1", n)
		}
		c.delete("web", nil)
		c.until("the pod is gone", func() bool { return c.pod("web") == nil })
		if n := c.runtime.sandboxes(); n != 0 {
			c.Errorf("%d sandboxes are left", n)
		}
		if g := c.runtime.started("web")[0]; g.grace.Seconds() < 29 || g.grace.Seconds() > 30 {
			c.Errorf("stopped with a grace of %v", g.grace)
		}
		c.waitEvent("web", "Killing: Stopping container web")
		// The address is not used again at once.
		c.create(newPod("next", "web"))
		if pod := c.waitPod("next", "is ready", isReady); pod.Status.PodIP != "127.64.1.2" {
			c.Errorf("next pod has %s", pod.Status.PodIP)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestCrashLoop(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["web"] = func(g *guest) int32 {
			g.spec.Stdout.Write([]byte("run\n"))
			return 3
		}
		made := c.create(newPod("web", "web"))
		// The first restart is immediate, the second waits 10 s.
		pod := c.waitPod("web", "is in CrashLoopBackOff", func(p *corev1.Pod) bool { return waitingFor(p) == "CrashLoopBackOff" })
		s := pod.Status.ContainerStatuses[0]
		want := "back-off 10s restarting failed container=web pod=web_default(" + string(made.UID) + ")"
		if s.State.Waiting.Message != want || s.RestartCount != 1 || pod.Status.Phase != corev1.PodRunning || isReady(pod) {
			c.Errorf("status %+v", s)
		}
		last := s.LastTerminationState.Terminated
		if last == nil || last.ExitCode != 3 || last.Reason != "Error" || last.ContainerID != s.ContainerID {
			c.Errorf("last state %+v", last)
		}
		if cond := conditionOf(pod, corev1.PodReady); cond.Reason != "ContainersNotReady" || cond.Message != "containers with unready status: [web]" {
			c.Errorf("Ready is %+v", cond)
		}
		c.waitEvent("web", "BackOff: Back-off restarting failed container web in pod web_default(")
		for _, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			n := len(c.runtime.started("web"))
			time.Sleep(wait*time.Second - time.Second)
			if got := len(c.runtime.started("web")); got != n {
				c.Fatalf("restarted before %d s were over", wait)
			}
			time.Sleep(time.Second + time.Millisecond)
			if got := len(c.runtime.started("web")); got != n+1 {
				c.Fatalf("not restarted after %d s", wait)
			}
		}
		if code, text := c.logs("web/web?previous=true"); code != 200 || text != "run\n" {
			c.Errorf("previous log: %d %q", code, text)
		}
	})
}

func TestEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		policy corev1.RestartPolicy
		codes  []int32 // of the runs
		phase  corev1.PodPhase
		starts int
		reason string
	}{
		"never, good":       {corev1.RestartPolicyNever, []int32{0}, corev1.PodSucceeded, 1, "PodCompleted"},
		"never, bad":        {corev1.RestartPolicyNever, []int32{7}, corev1.PodFailed, 1, "PodFailed"},
		"on failure, third": {corev1.RestartPolicyOnFailure, []int32{1, 2, 0}, corev1.PodSucceeded, 3, "PodCompleted"},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				var n atomic.Int32
				c.runtime.programs["job"] = func(*guest) int32 { return tt.codes[n.Add(1)-1] }
				pod := newPod("job", "job")
				pod.Spec.RestartPolicy = tt.policy
				c.create(pod)
				pod = c.waitPod("job", "has ended", func(p *corev1.Pod) bool { return p.Status.Phase == tt.phase })
				s := pod.Status.ContainerStatuses[0]
				if got := len(c.runtime.started("job")); got != tt.starts || int(s.RestartCount) != tt.starts-1 {
					c.Errorf("%d starts, status %+v", got, s)
				}
				if s.State.Terminated == nil || s.State.Terminated.ExitCode != tt.codes[len(tt.codes)-1] {
					c.Errorf("state %+v", s.State)
				}
				if cond := conditionOf(pod, corev1.PodReady); cond.Status != corev1.ConditionFalse || cond.Reason != tt.reason {
					c.Errorf("Ready is %+v", cond)
				}
				c.until("the sandbox is closed", func() bool { return c.runtime.sandboxes() == 0 })
				c.delete("job", nil)
				c.until("the pod is gone", func() bool { return c.pod("job") == nil })
			})
		})
	}
}

func TestInitContainers(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var mu sync.Mutex
		var order []string
		note := func(text string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, text)
		}
		c.runtime.start = func(spec sandbox.ContainerSpec) error { note(spec.Name + " up"); return nil }
		c.runtime.programs["first"], c.runtime.programs["second"] = exits(0), exits(0)
		for _, name := range []string{"side", "web"} {
			c.runtime.programs[name] = func(g *guest) int32 {
				<-g.told
				note(name + " down")
				return 0
			}
		}
		pod := newPod("web", "web")
		always := corev1.ContainerRestartPolicyAlways
		pod.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "app:v1"}, {Name: "side", Image: "app:v1", RestartPolicy: &always}, {Name: "second", Image: "app:v1"}}
		c.create(pod)
		pod = c.waitPod("web", "is ready", isReady)
		for _, s := range pod.Status.InitContainerStatuses {
			if !s.Ready {
				c.Errorf("init container %+v", s)
			}
		}
		c.delete("web", nil)
		c.until("the pod is gone", func() bool { return c.pod("web") == nil })
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(order, ", "); got != "first up, side up, second up, web up, web down, side down" {
			c.Errorf("order: %s", got)
		}
	})
}

func TestFailingInitContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["init"] = exits(1)
		pod := newPod("web", "web")
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "app:v1"}}
		c.create(pod)
		got := c.waitPod("web", "crash-loops", func(p *corev1.Pod) bool { return waitingFor(p) == "CrashLoopBackOff" })
		if got.Status.Phase != corev1.PodPending || got.Status.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			c.Errorf("status %+v", got.Status)
		}
		if cond := conditionOf(got, corev1.PodInitialized); cond.Message != "containers with incomplete status: [init]" {
			c.Errorf("Initialized is %+v", cond)
		}
		never := newPod("never", "web")
		never.Spec.InitContainers, never.Spec.RestartPolicy = pod.Spec.InitContainers, corev1.RestartPolicyNever
		c.create(never)
		c.waitPod("never", "has failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if len(c.runtime.started("web")) != 0 {
			c.Error("the main container was started")
		}
	})
}

func TestDeadline(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := newPod("web", "web")
		pod.Spec.ActiveDeadlineSeconds = ptr(int64(20))
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		pod = c.waitPod("web", "has failed", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed && p.Status.ContainerStatuses[0].State.Terminated != nil
		})
		if pod.Status.Reason != "DeadlineExceeded" || c.runtime.sandboxes() != 0 {
			c.Errorf("status %+v", pod.Status)
		}
	})
}

func TestAdmission(t *testing.T) {
	inCluster(t, func(c *cluster) {
		want := func(cpu string) corev1.ResourceRequirements {
			return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
		}
		first, second, third := newPod("first", "web"), newPod("second", "web"), newPod("third", "web")
		first.Spec.Containers[0].Resources, second.Spec.Containers[0].Resources = want("1500m"), want("600m")
		third.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		for _, pod := range []*corev1.Pod{first, second, third} {
			c.create(pod)
			c.waitPod(pod.Name, "has a phase", func(p *corev1.Pod) bool { return isReady(p) || p.Status.Phase == corev1.PodFailed })
		}
		if pod := c.pod("second"); pod.Status.Reason != "OutOfcpu" ||
			pod.Status.Message != "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000" {
			c.Errorf("status %+v", pod.Status)
		}
		if pod := c.pod("third"); pod.Status.Reason != "NodeAffinity" {
			c.Errorf("status %+v", pod.Status)
		}
		// What a pod has asked for is free again when it is gone.
		c.delete("first", nil)
		c.until("the pod is gone", func() bool { return c.pod("first") == nil })
		second.Name = "again"
		c.create(second)
		c.waitPod("again", "is ready", isReady)
	})
}

// TestNodeSelectorOfAUser: labels that were put on the Node later count.
func TestNodeSelectorOfAUser(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.until("the label is set", func() bool {
			node := c.node().DeepCopy()
			node.Labels["disk"] = "ssd"
			_, err := c.client.Update(c.Context(), api.Nodes.Key("", nodeName), node, api.UpdateOptions{})
			return err == nil
		})
		synctest.Wait()
		pod := newPod("web", "web")
		pod.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
	})
}

// TestSandboxThatDoesNotEnd keeps its pod: address and volumes are in use.
func TestSandboxThatDoesNotEnd(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		c.runtime.mu.Lock()
		c.runtime.stuck = 2
		c.runtime.mu.Unlock()
		c.delete("web", nil)
		time.Sleep(2 * time.Second) // fake: between the second attempt and the third
		synctest.Wait()
		if pod := c.pod("web"); pod == nil || conditionOf(pod, corev1.PodReadyToStartContainers).Status != corev1.ConditionFalse {
			c.Fatalf("pod %+v", pod)
		}
		c.until("the pod is gone", func() bool { return c.pod("web") == nil })
		if n := c.runtime.sandboxes(); n != 0 {
			c.Errorf("%d sandboxes are left", n)
		}
	})
}

func TestEndlessGrace(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := newPod("web", "web")
		pod.Spec.TerminationGracePeriodSeconds = ptr(int64(math.MaxInt64))
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		c.delete("web", nil)
		c.until("the pod is gone", func() bool { return c.pod("web") == nil })
		if g := c.runtime.started("web")[0]; g.grace < time.Hour {
			c.Errorf("stopped with a grace of %v", g.grace)
		}
	})
}

func TestForcedDeletion(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["web"] = func(g *guest) int32 { // does not listen to anybody
			<-g.told
			time.Sleep(g.grace)
			return 137
		}
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		c.delete("web", nil)
		time.Sleep(5 * time.Second)
		if c.pod("web") == nil {
			c.Fatal("the pod is gone before its guest")
		}
		c.delete("web", ptr(int64(0)))
		c.until("the guest has ended", func() bool { return c.runtime.sandboxes() == 0 })
	})
}

func TestNewImageInPlace(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.create(newPod("web", "web"))
		pod := c.waitPod("web", "is ready", isReady).DeepCopy()
		pod.Spec.Containers[0].Image = "app:v2"
		_, err := c.client.Update(c.Context(), api.Pods.KeyOf(pod), pod, api.UpdateOptions{})
		c.must(err)
		pod = c.waitPod("web", "runs the new image", func(p *corev1.Pod) bool {
			return isReady(p) && p.Status.ContainerStatuses[0].Image == "app:v2"
		})
		if s := pod.Status.ContainerStatuses[0]; s.RestartCount != 1 || s.LastTerminationState.Terminated == nil {
			c.Errorf("status %+v", s)
		}
		c.waitEvent("web", "Killing: Container web definition changed, will be restarted")
	})
}

func TestPreStopSleeps(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := newPod("web", "web")
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 12}}}
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		c.delete("web", nil)
		began := time.Now()
		g := c.runtime.started("web")[0]
		<-g.told
		if waited := time.Since(began); waited != 12*time.Second || g.grace != 18*time.Second {
			c.Errorf("told after %v with %v left", waited, g.grace)
		}
		c.until("the pod is gone", func() bool { return c.pod("web") == nil })
	})
}
