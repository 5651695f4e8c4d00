package agent

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/runtime/sandbox"
)

// The resources of a whole pod, beside those of its containers
// (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#pod-level-resource-specification).

// podLimit is what all containers of the pod may have together; 0: no limit.
func podLimit(pod *corev1.Pod, name corev1.ResourceName) *resource.Quantity {
	if pod.Spec.Resources == nil {
		return &resource.Quantity{}
	}
	return pod.Spec.Resources.Limits.Name(name, resource.DecimalSI)
}

// wholeRequest is what the pod asks for when its containers ask for so much:
// what it says of itself goes before.
func wholeRequest(pod *corev1.Pod, containers request) request {
	if pod.Spec.Resources == nil {
		return containers
	}
	own := requestIn(pod.Spec.Resources.Requests)
	if _, said := pod.Spec.Resources.Requests[corev1.ResourceCPU]; said {
		containers.cpu = own.cpu
	}
	if _, said := pod.Spec.Resources.Requests[corev1.ResourceMemory]; said {
		containers.memory = own.memory
	}
	return containers
}

// resourcesOf is what a runtime is told of a container's resources. A guest is
// one thread of work, and none gets more than the whole pod may have: of the
// processors by this bound, of memory also together, by the sandbox. Containers
// that ask for nothing share what their pod asks for beyond the others.
func resourcesOf(pod *corev1.Pod, r *corev1.ResourceRequirements) sandbox.Resources {
	out := sandbox.Resources{
		MemoryLimit: within(r.Limits.Memory(), podLimit(pod, corev1.ResourceMemory)).Value(),
		CPULimit:    within(r.Limits.Cpu(), podLimit(pod, corev1.ResourceCPU)).MilliValue(),
		CPURequest:  r.Requests.Cpu().MilliValue(),
	}
	if _, asks := r.Requests[corev1.ResourceCPU]; !asks && pod.Spec.Resources != nil {
		left, silent := pod.Spec.Resources.Requests.Cpu().MilliValue(), int64(0)
		for i := range pod.Spec.Containers {
			asked, said := pod.Spec.Containers[i].Resources.Requests[corev1.ResourceCPU]
			if left -= asked.MilliValue(); !said {
				silent++
			}
		}
		out.CPURequest = max(0, left) / max(1, silent)
	}
	return out
}

// within is the smaller of two limits, where 0 is none.
func within(own, whole *resource.Quantity) *resource.Quantity {
	if own.IsZero() || !whole.IsZero() && whole.Cmp(*own) < 0 {
		return whole
	}
	return own
}
