package agent_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/agent"
)

// TestShutdown ends a node's pods in the order of their priority and tells the
// API; what comes meanwhile is rejected.
func TestShutdown(t *testing.T) {
	grace := func(cfg *agent.Config) {
		cfg.Shutdown = agent.Shutdown{Grace: 30 * time.Second, Critical: 10 * time.Second}
	}
	inConfigured(t, grace, func(c *cluster) {
		told := map[string]time.Time{}
		c.runtime.programs["slow"] = func(g *guest) int32 { // needs longer than there is
			<-g.told
			time.Sleep(g.grace)
			told["slow"] = time.Now()
			return 137
		}
		c.runtime.programs["vital"] = func(g *guest) int32 {
			<-g.told
			told["vital"] = time.Now()
			c.create(newPod("late", "web"))
			time.Sleep(time.Second)
			return 0
		}
		c.runtime.programs["done"] = exits(0)
		done := newPod("done", "done")
		done.Spec.RestartPolicy = corev1.RestartPolicyNever
		c.create(done)
		slow := newPod("slow", "slow")
		long := int64(600)
		slow.Spec.TerminationGracePeriodSeconds = &long
		c.create(slow)
		vital := newPod("vital", "vital")
		vital.Spec.PriorityClassName = "system-node-critical"
		vital.Namespace = "default"
		c.create(vital)
		for _, name := range []string{"slow", "vital"} {
			c.waitPod(name, "is ready", isReady)
		}
		c.waitPod("done", "is done", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
		began := time.Now()
		c.stop()
		if took := told["slow"].Sub(began); took < 20*time.Second || took > 22*time.Second {
			c.Errorf("the pod had %v", took)
		}
		if told["vital"].Before(told["slow"]) {
			c.Error("a critical pod was told to end before the others had ended")
		}
		for _, name := range []string{"slow", "vital"} {
			s := c.pod(name).Status
			if s.Phase != corev1.PodFailed || s.Reason != "Terminated" || s.Message != "Pod was terminated in response to imminent node shutdown." || s.ContainerStatuses[0].State.Terminated == nil {
				c.Errorf("%s: %+v", name, s)
			}
			if d := conditionOf(c.pod(name), corev1.DisruptionTarget); d.Status != corev1.ConditionTrue || d.Reason != "TerminationByKubelet" {
				c.Errorf("%s: DisruptionTarget %+v", name, d)
			}
		}
		if s := c.pod("done").Status; s.Phase != corev1.PodSucceeded || s.Reason != "" {
			c.Errorf("the pod that had ended: %+v", s)
		}
		if s := c.pod("late").Status; s.Phase != corev1.PodFailed || s.Reason != "NodeShutdown" || s.Message != "Pod was rejected as the node is shutting down." {
			c.Errorf("the pod that came late: %+v", s)
		}
		ready := nodeCondition(c.node(), corev1.NodeReady)
		if ready.Status != corev1.ConditionFalse || ready.Reason != "KubeletNotReady" || ready.Message != "node is shutting down" {
			c.Errorf("Ready is %+v", ready)
		}
		c.startAgent()
		<-c.ready
		if n := len(c.runtime.started("")); n != 3 {
			c.Errorf("%d guests: something that was ended runs again", n)
		}
	})
}

// TestShutdownOfStaticPods lets them begin anew: nobody else would make them
// again.
func TestShutdownOfStaticPods(t *testing.T) {
	withManifests(t, func(c *cluster, dir string) {
		plain := c.configure
		c.stop()
		c.configure = func(cfg *agent.Config) { plain(cfg); cfg.Shutdown.Grace = 5 * time.Second }
		c.startAgent()
		c.write(dir, "web.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: 'app:v1'}]}")
		before := c.waitPod("web-one", "is ready", isReady)
		c.stop()
		if s := c.pod("web-one").Status; s.Phase != corev1.PodFailed || s.Reason != "Terminated" {
			c.Errorf("%+v", s)
		}
		c.startAgent()
		c.waitPod("web-one", "runs again", func(p *corev1.Pod) bool { return p.UID != before.UID && isReady(p) })
	})
}

func TestShutdownIsChecked(t *testing.T) {
	inCluster(t, func(c *cluster) {
		err := agent.New(agent.Config{Name: "x", Client: c.api, Runtime: c.runtime, Images: c.images, Dir: c.dir,
			Shutdown: agent.Shutdown{Grace: time.Second, Critical: time.Minute}}).Run(c.Context())
		if err == nil {
			c.Error("a critical part that is larger than the whole was taken")
		}
	})
}
