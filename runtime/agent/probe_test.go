package agent_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/runtime/sandbox"
)

// answer serves one HTTP request per connection over a pipe in memory.
func answer(status *atomic.Int32) func(uint16) (net.Conn, error) {
	return func(port uint16) (net.Conn, error) {
		code := int(status.Load())
		if port != 8080 || code == 0 {
			return nil, sandbox.ErrConnRefused
		}
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			buf := make([]byte, 4096)
			n, err := server.Read(buf)
			if err != nil || !strings.Contains(string(buf[:n]), "User-Agent: kube-probe/") {
				return
			}
			fmt.Fprintf(server, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", code, http.StatusText(code))
		}()
		return client, nil
	}
}

func httpProbe(change func(*corev1.Probe)) *corev1.Probe {
	p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}}}
	if change != nil {
		change(p)
	}
	return p
}

func probedPod(name string) *corev1.Pod {
	pod := newPod(name, "web")
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	return pod
}

func TestReadiness(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var status atomic.Int32
		c.runtime.dial = answer(&status)
		pod := probedPod("web")
		pod.Spec.Containers[0].ReadinessProbe = httpProbe(nil)
		c.create(pod)
		pod = c.waitPod("web", "runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		if s := pod.Status.ContainerStatuses[0]; s.Ready || s.Started == nil || !*s.Started {
			c.Errorf("status %+v", s)
		}
		// Before it was ever ready the guest is asked more often than every 10 s.
		time.Sleep(2 * time.Second)
		status.Store(200)
		time.Sleep(1100 * time.Millisecond)
		c.waitPod("web", "is ready soon", isReady)
		if since := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); since > 5*time.Second {
			c.Errorf("ready after %v", since)
		}
		// Three failures in a row end it, one success brings it back.
		status.Store(500)
		c.waitEvent("web", "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500")
		if !isReady(c.pod("web")) {
			c.Error("one failure was enough")
		}
		c.waitPod("web", "is not ready", func(p *corev1.Pod) bool { return !isReady(p) })
		status.Store(0)
		c.waitEvent("web", `Readiness probe failed: Get "http://127.64.1.1:8080/ready": dial tcp 127.64.1.1:8080: connect: connection refused`)
		status.Store(302)
		c.waitPod("web", "is ready again", isReady)
		if n := len(c.runtime.started("")); n != 1 {
			c.Errorf("%d starts", n)
		}
	})
}

func TestLiveness(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var status atomic.Int32
		status.Store(200)
		c.runtime.dial = answer(&status)
		pod := probedPod("web")
		pod.Spec.Containers[0].LivenessProbe = httpProbe(func(p *corev1.Probe) {
			p.PeriodSeconds, p.FailureThreshold, p.TerminationGracePeriodSeconds = 2, 2, ptr(int64(7))
		})
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		time.Sleep(10 * time.Second)
		if n := len(c.runtime.started("")); n != 1 {
			c.Fatalf("%d starts of a healthy container", n)
		}
		status.Store(503)
		c.waitEvent("web", "Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 503")
		c.waitEvent("web", "Killing: Container web failed liveness probe, will be restarted")
		g := c.runtime.started("")[0]
		<-g.told
		if g.grace != 7*time.Second {
			c.Errorf("the probe's grace period is not used: %v", g.grace)
		}
		status.Store(200)
		c.waitPod("web", "was restarted", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	})
}

func TestPostStart(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var status atomic.Int32
		status.Store(500)
		c.runtime.dial = answer(&status)
		pod := probedPod("web")
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: httpProbe(nil).HTTPGet}}
		c.create(pod)
		c.waitEvent("web", "FailedPostStartHook: PostStartHook failed: HTTP probe failed with statuscode: 500")
		c.waitEvent("web", "Killing: FailedPostStartHook")
		status.Store(200)
		c.waitPod("web", "was restarted", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount > 0 })
		before := len(c.runtime.started(""))
		time.Sleep(time.Minute)
		if n := len(c.runtime.started("")); n != before {
			c.Errorf("%d starts after %d", n, before)
		}
	})
}

func TestStartup(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var status atomic.Int32
		c.runtime.dial = answer(&status)
		pod := probedPod("web")
		tcp := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, FailureThreshold: 5}
		pod.Spec.Containers[0].StartupProbe = tcp
		pod.Spec.Containers[0].LivenessProbe = httpProbe(func(p *corev1.Probe) { p.PeriodSeconds, p.FailureThreshold = 1, 1 })
		c.create(pod)
		pod = c.waitPod("web", "runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		if s := pod.Status.ContainerStatuses[0]; s.Ready || s.Started == nil || *s.Started {
			c.Errorf("status %+v", s)
		}
		time.Sleep(3 * time.Second)
		status.Store(200)
		c.waitPod("web", "is ready", isReady)
		if n := len(c.runtime.started("")); n != 1 {
			c.Errorf("%d starts", n)
		}
		// One that never starts is ended.
		status.Store(0)
		pod = probedPod("never")
		pod.Spec.Containers[0].StartupProbe = tcp
		c.create(pod)
		c.waitEvent("never", "Killing: Container web failed startup probe, will be restarted")
	})
}

func TestUnsupportedProbe(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := newPod("web", "web")
		pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		c.create(pod)
		c.waitEvent("web", "Liveness probe errored and resulted in unknown state: failed to exec in container: scripted guests")
		if n := len(c.runtime.started("")); n != 1 {
			c.Errorf("%d starts", n)
		}
	})
}

func TestDialPod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.dial = func(port uint16) (net.Conn, error) {
			if port != 80 {
				return nil, sandbox.ErrConnRefused
			}
			client, server := net.Pipe()
			server.Close()
			return client, nil
		}
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		for _, tt := range []struct {
			to    string
			local bool
			err   error
		}{
			{"127.64.1.1:80", true, nil}, {"127.64.1.1:81", true, sandbox.ErrConnRefused},
			{"127.64.1.77:80", true, sandbox.ErrConnRefused}, {"127.64.2.1:80", false, nil},
		} {
			conn, local, err := c.agent.DialPod(c.Context(), netip.MustParseAddrPort(tt.to), nil)
			if local != tt.local || err != tt.err || (conn != nil) != (tt.local && tt.err == nil) {
				c.Errorf("%s: %v %v %v", tt.to, conn, local, err)
			}
			if conn != nil {
				conn.Close()
			}
		}
	})
}
