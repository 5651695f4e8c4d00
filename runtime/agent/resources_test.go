package agent_test

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/sandbox"
)

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// resize writes other resources for the pod's container.
func (c *cluster) resize(name string, requests, limits corev1.ResourceList) {
	c.Helper()
	pod := c.pod(name).DeepCopy()
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
	_, err := c.client.Update(c.Context(), api.Pods.KeyOf(pod), pod, api.UpdateOptions{Subresource: "resize"})
	c.must(err)
}

func sizedPod(name string, requests, limits corev1.ResourceList) *corev1.Pod {
	pod := newPod(name, "web")
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
	return pod
}

func TestResizeInPlace(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.create(sizedPod("web", amounts("100m", "64Mi"), amounts("200m", "128Mi")))
		pod := c.waitPod("web", "is ready", isReady)
		if s := pod.Status.ContainerStatuses[0]; s.Resources == nil || s.Resources.Limits.Cpu().MilliValue() != 200 || s.AllocatedResources.Memory().Value() != 64<<20 {
			c.Errorf("status %+v", s)
		}
		g := c.runtime.started("web")[0]
		if want := (sandbox.Resources{MemoryLimit: 128 << 20, CPULimit: 200, CPURequest: 100}); g.spec.Resources != want {
			c.Errorf("started with %+v", g.spec.Resources)
		}
		c.resize("web", amounts("150m", "64Mi"), amounts("500m", "256Mi"))
		pod = c.waitPod("web", "has other limits", func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses[0]
			return s.Resources.Limits.Cpu().MilliValue() == 500 && s.AllocatedResources.Cpu().MilliValue() == 150 && p.Status.ObservedGeneration == p.Generation
		})
		if want := (sandbox.Resources{MemoryLimit: 256 << 20, CPULimit: 500, CPURequest: 150}); g.size != want || pod.Status.ContainerStatuses[0].RestartCount != 0 {
			c.Errorf("the guest has %+v", g.size)
		}
		c.waitEvent("web", "ResizeCompleted")

		c.resize("web", amounts("5", "64Mi"), amounts("5", "256Mi")) // the node has two
		pod = c.waitPod("web", "cannot be resized", func(p *corev1.Pod) bool {
			return conditionOf(p, corev1.PodResizePending).Reason == corev1.PodReasonInfeasible
		})
		if text := conditionOf(pod, corev1.PodResizePending).Message; text != "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000" {
			c.Errorf("message %q", text)
		}
		if s := pod.Status.ContainerStatuses[0]; s.AllocatedResources.Cpu().MilliValue() != 150 || g.size.CPULimit != 500 {
			c.Error("something was changed all the same")
		}

		// What does not fit now is given when another pod has gone.
		c.create(sizedPod("other", amounts("1500m", "64Mi"), amounts("2", "64Mi")))
		c.waitPod("other", "is ready", isReady)
		c.resize("web", amounts("1", "64Mi"), amounts("2", "256Mi"))
		c.waitPod("web", "waits for resources", func(p *corev1.Pod) bool {
			return conditionOf(p, corev1.PodResizePending).Reason == corev1.PodReasonDeferred
		})
		c.delete("other", nil)
		c.waitPod("web", "has got them", func(p *corev1.Pod) bool {
			return conditionOf(p, corev1.PodResizePending).Type == "" && p.Status.ContainerStatuses[0].Resources.Requests.Cpu().Value() == 1
		})
	})
}

func TestResizeThatFailsOrRestarts(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := sizedPod("web", amounts("100m", "64Mi"), amounts("200m", "128Mi"))
		pod.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
		c.create(pod)
		c.waitPod("web", "is ready", isReady)
		g := c.runtime.started("web")[0]
		g.mu.Lock()
		g.refuse = errors.New("the memory is in use")
		g.mu.Unlock()
		c.resize("web", amounts("100m", "16Mi"), amounts("200m", "32Mi"))
		pod = c.waitPod("web", "is being resized", func(p *corev1.Pod) bool {
			return conditionOf(p, corev1.PodResizeInProgress).Reason == corev1.PodReasonError
		})
		if s := pod.Status.ContainerStatuses[0]; s.Resources.Limits.Memory().Value() != 128<<20 || s.AllocatedResources.Memory().Value() != 16<<20 {
			c.Errorf("status %+v", s)
		}
		g.mu.Lock()
		g.refuse = nil
		g.mu.Unlock()
		c.waitPod("web", "has got less", func(p *corev1.Pod) bool {
			return conditionOf(p, corev1.PodResizeInProgress).Type == "" && p.Status.ContainerStatuses[0].Resources.Limits.Memory().Value() == 32<<20
		})
		c.resize("web", amounts("100m", "16Mi"), amounts("300m", "32Mi"))
		c.waitEvent("web", "Killing: Container web resize requires restart")
		c.waitPod("web", "was started again", func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses[0]
			return isReady(p) && s.RestartCount == 1 && s.Resources.Limits.Cpu().MilliValue() == 300
		})
	})
}

func TestStorageEviction(t *testing.T) {
	limit := resource.MustParse("1Ki")
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		fill   bool // the volume; else the log
		text   string
	}{
		"size limit": {func(p *corev1.Pod) { p.Spec.Volumes[0].EmptyDir.SizeLimit = &limit }, true,
			`Usage of EmptyDir volume "data" exceeds the limit "1Ki". `},
		"container": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: limit}
		}, false, `Container web exceeded its local ephemeral storage limit "1Ki". `},
		"pod": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: limit}
		}, true, "Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. "},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.runtime.programs["web"] = func(g *guest) int32 {
					if !tt.fill {
						g.spec.Stdout.Write([]byte(strings.Repeat("x", 2000) + "\n"))
					} else if err := os.WriteFile(filepath.Join(g.spec.Mounts[0].Source, "big"), make([]byte, 2000), 0o600); err != nil {
						c.Error(err)
					}
					return serve(g)
				}
				pod := newPod("web", "web")
				pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
				pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
				tt.change(pod)
				c.create(pod)
				pod = c.waitPod("web", "is evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
				disrupted := conditionOf(pod, corev1.DisruptionTarget)
				if pod.Status.Reason != "Evicted" || pod.Status.Message != tt.text || disrupted.Reason != corev1.PodReasonTerminationByKubelet {
					c.Errorf("status %q %q, condition %+v", pod.Status.Reason, pod.Status.Message, disrupted)
				}
				c.waitEvent("web", "Evicted: "+tt.text)
				c.until("everything is freed", func() bool { return c.runtime.sandboxes() == 0 })
			})
		})
	}
}

func TestStats(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.create(newPod("web", "web"))
		c.waitPod("web", "is ready", isReady)
		get := func(path string) string {
			w := httptest.NewRecorder()
			c.agent.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			return w.Body.String()
		}
		time.Sleep(time.Minute)
		var s stats.Summary
		c.must(json.Unmarshal([]byte(get("/stats/summary")), &s))
		if len(s.Pods) != 1 || s.Pods[0].PodRef.Name != "web" || s.Node.NodeName != nodeName {
			c.Fatalf("summary %+v", s)
		}
		web := s.Pods[0].Containers[0]
		if *web.CPU.UsageCoreNanoSeconds != 1.5e9 || *web.CPU.UsageNanoCores != 0 || *web.Memory.WorkingSetBytes != 3<<20 {
			c.Errorf("container uses %v %v %v", *web.CPU.UsageCoreNanoSeconds, *web.CPU.UsageNanoCores, *web.Memory.WorkingSetBytes)
		}
		text := get("/metrics/resource")
		for _, want := range []string{
			`container_cpu_usage_seconds_total{container="web",namespace="default",pod="web"} 1.5 `,
			`pod_memory_working_set_bytes{namespace="default",pod="web"} 3.145728e+06 `,
			"# TYPE node_cpu_usage_seconds_total counter", "resource_scrape_error 0"} {
			if !strings.Contains(text, want) {
				c.Errorf("metrics lack %q:\n%s", want, text)
			}
		}
	})
}
