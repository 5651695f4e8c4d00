package agent

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// usage is what the admitted pods of the node ask for. It is safe for
// concurrent use.
type usage struct {
	mu   sync.Mutex
	pods map[types.UID]request
	sum  request
}

// request is what one pod asks for: thousandths of a core and bytes.
type request struct{ cpu, memory, storage int64 }

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
	total := wholeRequest(pod, together.most(peak))
	return total.plus(requestIn(pod.Spec.Overhead))
}

func containerRequest(c *corev1.Container) request { return requestIn(c.Resources.Requests) }

func requestIn(r corev1.ResourceList) request {
	return request{r.Cpu().MilliValue(), r.Memory().Value(), r.StorageEphemeral().Value()}
}

func (r request) plus(o request) request {
	return request{r.cpu + o.cpu, r.memory + o.memory, r.storage + o.storage}
}

func (r request) minus(o request) request {
	return request{r.cpu - o.cpu, r.memory - o.memory, r.storage - o.storage}
}

func (r request) most(o request) request {
	return request{max(r.cpu, o.cpu), max(r.memory, o.memory), max(r.storage, o.storage)}
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
		case need.storage > 0 && c.Storage > 0 && u.sum.storage+need.storage > c.Storage:
			return outOf("ephemeral-storage", need.storage, u.sum.storage, c.Storage)
		}
	}
	u.pods[pod.UID] = need
	u.sum = u.sum.plus(need)
	return nil
}

func outOf(what string, asked, used, capacity int64) *verdict {
	return &verdict{reason: "OutOf" + what, message: fmt.Sprintf(
		"Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", what, asked, used, capacity)}
}

// release gives back what a pod has asked for.
func (u *usage) release(uid types.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	need := u.pods[uid]
	delete(u.pods, uid)
	u.sum = u.sum.minus(need)
}

// resize changes what an admitted pod has to what its spec asks for now, or
// says why that cannot be: never (Infeasible) or not yet (Deferred).
func (u *usage) resize(pod *corev1.Pod, c Capacity) *verdict {
	u.mu.Lock()
	defer u.mu.Unlock()
	need, had := requestOf(pod), u.pods[pod.UID]
	others := u.sum.minus(had)
	for _, r := range []struct {
		name                      string
		need, had, used, capacity int64
	}{{"cpu", need.cpu, had.cpu, others.cpu, c.CPU}, {"memory", need.memory, had.memory, others.memory, c.Memory}} {
		switch {
		case r.need <= r.had: // less is always possible
		case r.need > r.capacity:
			return &verdict{reason: corev1.PodReasonInfeasible, message: fmt.Sprintf(
				"Node didn't have enough capacity: %s, requested: %d, capacity: %d", r.name, r.need, r.capacity)}
		case r.used+r.need > r.capacity:
			return &verdict{reason: corev1.PodReasonDeferred, message: fmt.Sprintf(
				"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", r.name, r.need, r.used, r.capacity)}
		}
	}
	u.pods[pod.UID] = need
	u.sum = others.plus(need)
	return nil
}

// admissionAge is how old the machine's state may be that pods are admitted by:
// hundreds may come at once, and each look asks the kernel for several files.
// The kubelet goes by its last look of ten seconds.
const admissionAge = 100 * time.Millisecond

// glance remembers a look at the machine for a moment. The zero value is ready;
// it is safe for concurrent use.
type glance struct {
	mu   sync.Mutex
	at   time.Time
	seen health
}

// now is what look has said within admissionAge.
func (g *glance) now(look func() health) health {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.at) >= admissionAge {
		g.seen, g.at = look(), now
	}
	return g.seen
}

// admit checks what the scheduler has checked, for pods that were bound by
// somebody else or at the same time. nil: the pod may run.
func (a *Agent) admit(w *worker, pod *corev1.Pod) *verdict {
	if a.ending.Load() {
		return &verdict{reason: "NodeShutdown", message: shutdownRejected}
	}
	if os := pod.Spec.OS; os != nil && string(os.Name) != runtime.GOOS && string(os.Name) != "linux" {
		return &verdict{reason: "PodOSNotSupported", message: "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"}
	}
	if condition := pressureOn(a.admitting.now(a.health), pod); condition != "" && !w.static {
		return &verdict{reason: "Evicted", message: fmt.Sprintf("Pod was rejected: The node had condition: [%s]. ", condition)}
	}
	self := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Name, Labels: a.currentLabels()}}
	if fits, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(self); err != nil || !fits {
		return &verdict{reason: "NodeAffinity", message: "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	return a.usage.reserve(pod, a.cfg.Capacity, false)
}
