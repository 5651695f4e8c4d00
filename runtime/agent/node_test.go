package agent_test

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/control/api"
)

func nodeCondition(node *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range node.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func TestNode(t *testing.T) {
	inCluster(t, func(c *cluster) {
		node := c.node()
		if node.Labels[corev1.LabelHostname] != nodeName || node.Labels[corev1.LabelOSStable] != runtime.GOOS || node.Labels[corev1.LabelArchStable] != runtime.GOARCH {
			c.Errorf("labels %v", node.Labels)
		}
		if node.Status.Capacity.Cpu().MilliValue() != 2000 || node.Status.Allocatable.Pods().Value() != 10 || node.Status.NodeInfo.Architecture != runtime.GOARCH {
			c.Errorf("status %+v", node.Status)
		}
		ready := nodeCondition(node, corev1.NodeReady)
		if ready.Status != corev1.ConditionTrue || ready.Reason != "KubeletReady" || ready.Message != "kubelet is posting ready status" {
			c.Errorf("Ready is %+v", ready)
		}
		if p := nodeCondition(node, corev1.NodePIDPressure); p.Status != corev1.ConditionFalse || p.Reason != "KubeletHasSufficientPID" {
			c.Errorf("PIDPressure is %+v", p)
		}
		if since := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); since > 50*time.Millisecond {
			c.Errorf("ready after %v", since)
		}
		c.waitEvent(nodeName, "NodeReady: Node one status is now: NodeReady")
		c.waitEvent(nodeName, "Starting: Starting kubelet.")
	})
}

// TestExtendedResources: what an administrator advertises on a node stays, and
// can be given away, until it is taken back.
func TestExtendedResources(t *testing.T) {
	inCluster(t, func(c *cluster) {
		advertise := func(list corev1.ResourceList) {
			node := c.node().DeepCopy()
			for _, name := range []corev1.ResourceName{"example.com/dongle", "example.com/other"} {
				delete(node.Status.Capacity, name)
			}
			maps.Copy(node.Status.Capacity, list)
			_, err := c.client.Update(c.Context(), api.Nodes.KeyOf(node), node, api.UpdateOptions{Subresource: "status"})
			c.must(err)
			time.Sleep(6 * time.Minute)
		}
		advertise(corev1.ResourceList{"example.com/dongle": resource.MustParse("4"), "example.com/other": resource.MustParse("1")})
		for name, want := range map[corev1.ResourceName]int64{"example.com/dongle": 4, "example.com/other": 1, corev1.ResourcePods: 10} {
			s := c.node().Status
			if has, free := s.Capacity[name], s.Allocatable[name]; has.Value() != want || free.Value() != want {
				c.Errorf("%s: capacity %s, allocatable %s, want %d", name, has.String(), free.String(), want)
			}
		}
		advertise(corev1.ResourceList{"example.com/dongle": resource.MustParse("2")})
		s := c.node().Status
		if free := s.Allocatable["example.com/dongle"]; free.Value() != 2 {
			c.Errorf("allocatable %s, want 2", free.String())
		}
		if _, left := s.Allocatable["example.com/other"]; left {
			c.Errorf("allocatable %v", s.Allocatable)
		}
	})
}

func TestHeartbeats(t *testing.T) {
	inCluster(t, func(c *cluster) {
		lease := func() *coordinationv1.Lease {
			l, err := api.Get[*coordinationv1.Lease](c.Context(), c.client, api.Leases.Key("kube-node-lease", nodeName))
			c.must(err)
			return l
		}
		time.Sleep(time.Second)
		first := lease()
		if *first.Spec.LeaseDurationSeconds != 40 || *first.Spec.HolderIdentity != nodeName || len(first.OwnerReferences) != 1 {
			c.Errorf("lease %+v", first)
		}
		before := c.node().ResourceVersion
		time.Sleep(10 * time.Second)
		if renewed := lease().Spec.RenewTime.Sub(first.Spec.RenewTime.Time); renewed != 10*time.Second {
			c.Errorf("renewed after %v", renewed)
		}
		if c.node().ResourceVersion != before {
			c.Error("the status was written without news")
		}
		time.Sleep(5 * time.Minute)
		if c.node().ResourceVersion == before {
			c.Error("the status was not written for five minutes")
		}
		// A node that is deleted registers again.
		_, err := c.client.Delete(c.Context(), api.Nodes.Key("", nodeName), api.DeleteOptions{})
		c.must(err)
		c.until("the node is back", func() bool { n := c.node(); return n != nil && nodeCondition(n, corev1.NodeReady).Type != "" })
	})
}

func TestRestart(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["job"] = exits(0)
		job := newPod("job", "job")
		job.Spec.RestartPolicy = corev1.RestartPolicyNever
		c.create(job)
		c.create(newPod("web", "web"))
		gone := c.create(newPod("gone", "web"))
		for _, name := range []string{"web", "gone"} {
			c.waitPod(name, "is ready", isReady)
		}
		c.waitPod("job", "has ended", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
		before := c.pod("web")
		c.stop()
		if n := c.runtime.sandboxes(); n != 0 {
			c.Fatalf("%d sandboxes outlived the agent", n)
		}
		if !isReady(c.pod("web")) {
			c.Error("the end of the agent changed the pod's status")
		}
		c.delete("gone", nil) // only marked: nobody is there to end it
		zero := int64(0)
		_, err := c.client.Delete(c.Context(), api.Pods.Key("default", "gone"), api.DeleteOptions{GracePeriodSeconds: &zero})
		c.must(err)
		c.create(newPod("new", "web"))
		revision := c.pod("web").ResourceVersion
		c.startAgent()
		if c.until("something was written", func() bool { return c.pod("web").ResourceVersion != revision }); !isReady(c.pod("web")) {
			c.Error("the pod was reported to be down although it was started at once")
		}
		pod := c.waitPod("web", "was started again", func(p *corev1.Pod) bool {
			return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1
		})
		last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated
		if last == nil || last.Reason != "ContainerStatusUnknown" || last.ContainerID != before.Status.ContainerStatuses[0].ContainerID {
			c.Errorf("last state %+v", last)
		}
		if pod.Status.PodIP != before.Status.PodIP || !pod.Status.StartTime.Equal(before.Status.StartTime) {
			c.Errorf("address %s, before %s", pod.Status.PodIP, before.Status.PodIP)
		}
		if fresh := c.waitPod("new", "is ready", isReady); fresh.Status.PodIP == pod.Status.PodIP {
			c.Error("two pods have one address")
		}
		if p := c.pod("job"); p.Status.Phase != corev1.PodSucceeded || len(c.runtime.started("job")) != 1 {
			c.Errorf("the ended pod: %+v", p.Status)
		}
		c.until("logs of the lost pod are collected", func() bool {
			left, err := filepath.Glob(filepath.Join(c.dir, "logs", "*"+string(gone.UID)))
			c.must(err)
			return len(left) == 0
		})
		if _, err := os.Stat(filepath.Join(c.dir, "logs", "default_web_"+string(pod.UID), "web", "1.log")); err != nil {
			c.Error(err)
		}
	})
}

// While nothing was heard of the node, its pods were declared to be in phase
// Unknown: it says what they are, also one that has begun anew meanwhile.
func TestNodeSaysWhatItsPodsAre(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		declare := func() {
			pod := c.pod("web").DeepCopy()
			pod.Status.Phase = corev1.PodUnknown
			for i := range pod.Status.Conditions {
				if pod.Status.Conditions[i].Type == corev1.PodReady {
					pod.Status.Conditions[i].Status = corev1.ConditionFalse
				}
			}
			_, err := c.client.Update(c.Context(), api.Pods.KeyOf(pod), pod, api.UpdateOptions{Subresource: "status"})
			c.must(err)
		}
		running := func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && isReady(p) }
		declare()
		if pod := c.waitPod("web", "is running", running); pod.Status.ContainerStatuses[0].RestartCount != 0 {
			c.Errorf("restarted: %+v", pod.Status.ContainerStatuses[0])
		}
		c.stop()
		declare()
		c.startAgent()
		c.waitPod("web", "is running after a restart", func(p *corev1.Pod) bool {
			return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1
		})
	})
}

func TestLogs(t *testing.T) {
	inCluster(t, func(c *cluster) {
		release := make(chan struct{})
		c.runtime.programs["web"] = func(g *guest) int32 {
			g.spec.Stdout.Write([]byte("one\ntwo\n"))
			g.spec.Stderr.Write([]byte("three\n"))
			select {
			case <-release:
				g.spec.Stdout.Write([]byte("four\n"))
				return 1
			case <-g.told:
				return 0
			}
		}
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		for path, want := range map[string]string{
			"web/web": "one\ntwo\nthree\n", "web/web?tailLines=1": "three\n", "web/web?limitBytes=5": "one\nt",
			"web/web?sinceSeconds=3600": "one\ntwo\nthree\n", "web/web?sinceTime=2030-01-01T00:00:00Z": "",
		} {
			if code, text := c.logs(path); code != 200 || text != want {
				c.Errorf("%s: %d %q", path, code, text)
			}
		}
		for path, want := range map[string]string{
			"web/no": "container no not found in pod web", "no/web": `pod "no" does not exist on this node`,
			"web/web?previous=true": `previous terminated container "web" in pod "web" not found`,
			"web/web?tailLines=-1":  "tailLines must be a number of at least 0", "web/web?follow=maybe": "follow must be true or false",
		} {
			if code, text := c.logs(path); code < 400 || !strings.Contains(text, want) {
				c.Errorf("%s: %d %q", path, code, text)
			}
		}
		followed := make(chan string, 1)
		go func() {
			_, text := c.logs("web/web?follow=true")
			followed <- text
		}()
		time.Sleep(time.Second)
		close(release)
		if text := <-followed; text != "one\ntwo\nthree\nfour\n" {
			c.Errorf("followed %q", text)
		}
		c.waitPod("web", "was restarted", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount > 0 })
		if code, text := c.logs("web/web?previous=true"); code != 200 || text != "one\ntwo\nthree\nfour\n" {
			c.Errorf("previous: %d %q", code, text)
		}
	})
}

func TestTerminationMessage(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["logs"] = func(g *guest) int32 { g.spec.Stderr.Write([]byte("it broke\n")); return 1 }
		c.runtime.programs["file"] = func(g *guest) int32 {
			if len(g.spec.Mounts) != 1 || g.spec.Mounts[0].Target != "/msg/last" {
				return 9
			}
			if err := os.WriteFile(g.spec.Mounts[0].Source, []byte("last words\xff"), 0o600); err != nil {
				return 8
			}
			return 2
		}
		pod := newPod("web", "logs", "file")
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		pod.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		pod.Spec.Containers[1].TerminationMessagePath = "/msg/last"
		c.create(pod)
		pod = c.waitPod("web", "has failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		for i, want := range []string{"it broke\n", "last words"} {
			if got := pod.Status.ContainerStatuses[i].State.Terminated; got == nil || got.Message != want {
				c.Errorf("container %d ended with %+v", i, got)
			}
		}
		c.delete("web", nil)
		c.until("the pod is gone", func() bool { return c.pod("web") == nil })
		if left, err := os.ReadDir(filepath.Join(c.dir, "pods")); err != nil || len(left) > 0 {
			c.Errorf("left behind: %v, %v", left, err)
		}
	})
}
