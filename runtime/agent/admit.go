package agent

import (
	"fmt"
	"runtime"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// usage is what the admitted pods of the node ask for. It is safe for
// concurrent use.
type usage struct {
	mu   sync.Mutex
	pods map[types.UID]request
	sum  request
}

// request is what one pod asks for: thousandths of a core and bytes.
type request struct{ cpu, memory int64 }

// requestOf adds up a pod's containers: the larger of all containers that run
// together and of each init container with the sidecars before it
// (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers).
func requestOf(pod *corev1.Pod) request {
	var together, sidecars, peak request
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		own := containerRequest(c)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = sidecars.plus(own)
			peak = peak.most(sidecars)
			continue
		}
		peak = peak.most(sidecars.plus(own))
	}
	together = sidecars
	for i := range pod.Spec.Containers {
		together = together.plus(containerRequest(&pod.Spec.Containers[i]))
	}
	total := together.most(peak)
	return total.plus(request{pod.Spec.Overhead.Cpu().MilliValue(), pod.Spec.Overhead.Memory().Value()})
}

func containerRequest(c *corev1.Container) request {
	return request{c.Resources.Requests.Cpu().MilliValue(), c.Resources.Requests.Memory().Value()}
}

func (r request) plus(o request) request { return request{r.cpu + o.cpu, r.memory + o.memory} }

func (r request) most(o request) request {
	return request{max(r.cpu, o.cpu), max(r.memory, o.memory)}
}

// reserve takes a pod in, or says why it does not fit.
func (u *usage) reserve(pod *corev1.Pod, c Capacity, force bool) *verdict {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pods == nil {
		u.pods = make(map[types.UID]request)
	}
	if _, known := u.pods[pod.UID]; known {
		return nil
	}
	need := requestOf(pod)
	if !force {
		switch {
		case int64(len(u.pods)) >= c.Pods:
			return outOf("pods", 1, int64(len(u.pods)), c.Pods)
		case need.cpu > 0 && u.sum.cpu+need.cpu > c.CPU:
			return outOf("cpu", need.cpu, u.sum.cpu, c.CPU)
		case need.memory > 0 && u.sum.memory+need.memory > c.Memory:
			return outOf("memory", need.memory, u.sum.memory, c.Memory)
		}
	}
	u.pods[pod.UID] = need
	u.sum = u.sum.plus(need)
	return nil
}

func outOf(what string, asked, used, capacity int64) *verdict {
	return &verdict{"OutOf" + what, fmt.Sprintf(
		"Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", what, asked, used, capacity)}
}

// release gives back what a pod has asked for.
func (u *usage) release(uid types.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	need := u.pods[uid]
	delete(u.pods, uid)
	u.sum.cpu -= need.cpu
	u.sum.memory -= need.memory
}

// admit checks what the scheduler has checked, for pods that were bound by
// somebody else or at the same time. nil: the pod may run.
func (a *Agent) admit(w *worker, pod *corev1.Pod) *verdict {
	if os := pod.Spec.OS; os != nil && string(os.Name) != runtime.GOOS && string(os.Name) != "linux" {
		return &verdict{"PodOSNotSupported", "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"}
	}
	if len(pod.Spec.NodeSelector) > 0 && !labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(a.currentLabels())) {
		return &verdict{"NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	return a.usage.reserve(pod, a.cfg.Capacity, false)
}
