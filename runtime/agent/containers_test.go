package agent_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/sandbox"
)

func TestEphemeralContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.programs["look"] = func(g *guest) int32 {
			g.spec.Stdout.Write([]byte("looked around\n"))
			return 3
		}
		c.create(newPod("web", "web"))
		pod := c.waitPod("web", "is ready", isReady).DeepCopy()
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "look", Image: "app:v1"}, TargetContainerName: "web"}}
		_, err := c.client.Update(c.Context(), api.Pods.KeyOf(pod), pod, api.UpdateOptions{Subresource: "ephemeralcontainers"})
		c.must(err)
		pod = c.waitPod("web", "has looked around", func(p *corev1.Pod) bool {
			return len(p.Status.EphemeralContainerStatuses) == 1 && p.Status.EphemeralContainerStatuses[0].State.Terminated != nil
		})
		if s := pod.Status.EphemeralContainerStatuses[0]; s.State.Terminated.ExitCode != 3 || s.RestartCount != 0 || !isReady(pod) {
			c.Errorf("status %+v, ready %v", s, isReady(pod))
		}
		time.Sleep(10 * time.Minute)
		if n := len(c.runtime.started("look")); n != 1 {
			c.Errorf("an ephemeral container was started %d times", n)
		}
		if code, text := c.logs("web/look"); code != 200 || text != "looked around\n" {
			c.Errorf("log: %d %q", code, text)
		}
		c.stop()
		c.startAgent() // and does not run it again
		c.waitPod("web", "runs again", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
		if n := len(c.runtime.started("look")); n != 1 {
			c.Errorf("started %d times after a restart of the agent", n)
		}
	})
}

func TestRestartRules(t *testing.T) {
	in := func(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
	}
	for name, tt := range map[string]struct {
		pod   corev1.RestartPolicy
		own   corev1.ContainerRestartPolicy
		rules []corev1.ContainerRestartRule
		codes []int32 // of the runs
		phase corev1.PodPhase
	}{
		"a rule restarts":          {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, in("In", 42), []int32{42, 42, 1}, corev1.PodFailed},
		"a rule for all others":    {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, in("NotIn", 0, 1), []int32{7, 0}, corev1.PodSucceeded},
		"the container's own":      {corev1.RestartPolicyAlways, corev1.ContainerRestartPolicyNever, nil, []int32{3}, corev1.PodFailed},
		"its own until it is good": {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyOnFailure, nil, []int32{3, 0}, corev1.PodSucceeded},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				var n atomic.Int32
				c.runtime.programs["job"] = func(*guest) int32 { return tt.codes[n.Add(1)-1] }
				pod := newPod("job", "job")
				pod.Spec.RestartPolicy = tt.pod
				pod.Spec.Containers[0].RestartPolicy, pod.Spec.Containers[0].RestartPolicyRules = &tt.own, tt.rules
				c.create(pod)
				pod = c.waitPod("job", "has ended", func(p *corev1.Pod) bool { return p.Status.Phase == tt.phase })
				if got := int(pod.Status.ContainerStatuses[0].RestartCount); got != len(tt.codes)-1 {
					c.Errorf("%d restarts, want %d", got, len(tt.codes)-1)
				}
			})
		})
	}
}

func TestPostStartComesBeforeRunning(t *testing.T) {
	inCluster(t, func(c *cluster) {
		release := make(chan struct{})
		var hooks atomic.Int32
		c.runtime.exec = func(told <-chan struct{}, e sandbox.ExecSpec) int32 {
			if slices.Equal(e.Args, []string{"wait", "$(HERE)"}) { // hooks are not expanded
				hooks.Add(1)
			}
			select {
			case <-release:
			case <-told:
			}
			return 0
		}
		pod := newPod("web", "first", "second")
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"wait", "$(HERE)"}}}}
		c.create(pod)
		c.until("the hook runs", func() bool { return hooks.Load() == 1 })
		time.Sleep(time.Minute)
		s := c.pod("web").Status
		if w := s.ContainerStatuses[0].State.Waiting; s.Phase != corev1.PodPending || w == nil || w.Reason != "ContainerCreating" {
			c.Errorf("during the hook: phase %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		if n := len(c.runtime.started("second")); n != 0 {
			c.Error("the second container did not wait for the first one's hook")
		}
		close(release)
		c.waitPod("web", "is ready", isReady)
	})
}

func TestExecProbe(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var state atomic.Value
		state.Store("good")
		c.runtime.exec = func(told <-chan struct{}, e sandbox.ExecSpec) int32 {
			if got := strings.Join(e.Args, " "); got != "check /tmp/x" {
				c.Errorf("command %q", got)
			}
			switch state.Load() {
			case "slow":
				<-told
				return 137
			case "bad":
				e.Stderr.Write([]byte("no such file"))
				return 1
			}
			return 0
		}
		pod := newPod("web", "web")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "FILE", Value: "/tmp/x"}}
		pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{FailureThreshold: 1, PeriodSeconds: 1, TimeoutSeconds: 2,
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check", "$(FILE)"}}}}
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		state.Store("bad")
		c.waitPod("web", "is not ready", func(p *corev1.Pod) bool { return !isReady(p) })
		c.waitEvent("web", "Unhealthy: Readiness probe failed: no such file")
		state.Store("slow")
		c.waitEvent("web", `Unhealthy: Readiness probe failed: command timed out: "check /tmp/x" timed out after 2s`)
		state.Store("good")
		c.waitPod("web", "is ready again", isReady)
	})
}
