package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// What a container that requests nothing counts for when nodes are scored, so
// that such pods do not pile up on one node. The figures are kube-scheduler's.
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 << 20
)

// amounts are quantities of resources: CPU in thousandths of a core, the
// others in bytes or pieces.
type amounts struct {
	cpu, memory, storage int64
	extended             map[corev1.ResourceName]int64 // nil: none
}

func amountsOf(list corev1.ResourceList) amounts {
	var a amounts
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case corev1.ResourcePods:
		default:
			if a.extended == nil {
				a.extended = map[corev1.ResourceName]int64{}
			}
			a.extended[name] = q.Value()
		}
	}
	return a
}

// add changes a by sign times b.
func (a *amounts) add(b *amounts, sign int64) {
	a.cpu += sign * b.cpu
	a.memory += sign * b.memory
	a.storage += sign * b.storage
	for name, n := range b.extended {
		if a.extended == nil {
			a.extended = map[corev1.ResourceName]int64{}
		}
		a.extended[name] += sign * n
	}
}

// hostPort is a port that a pod takes on its node.
type hostPort struct {
	ip       string // "0.0.0.0": all addresses
	protocol corev1.Protocol
	port     int32
}

func (p hostPort) conflicts(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.ip == anyIP || q.ip == anyIP)
}

const anyIP = "0.0.0.0"

// request is what a pod asks of a node, read from its spec once.
type request struct {
	pod *corev1.Pod
	// need is what must fit; weigh counts defaults for what is not requested.
	need, weigh amounts
	ports       []hostPort
	owner       types.UID // of the controlling owner, "" without
	// affinity is nil when any node will do.
	affinity  *nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms // nil: no preference
}

func newRequest(pod *corev1.Pod) *request {
	r := &request{
		pod:  pod,
		need: amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{})),
		weigh: amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{
			NonMissingContainerRequests: corev1.ResourceList{
				corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
				corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
			}})),
		ports: hostPorts(pod),
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		r.owner = owner.UID
	}
	var terms []corev1.PreferredSchedulingTerm
	required := len(pod.Spec.NodeSelector) > 0
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		required = required || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil
		terms = a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	}
	if required {
		match := nodeaffinity.GetRequiredNodeAffinity(pod)
		r.affinity = &match
	}
	if len(terms) > 0 {
		// Terms that do not parse are refused at admission; here they count for nothing.
		if preferred, err := nodeaffinity.NewPreferredSchedulingTerms(terms); err == nil {
			r.preferred = preferred
		}
	}
	return r
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	add := func(containers []corev1.Container) {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort <= 0 {
					continue
				}
				h := hostPort{ip: p.HostIP, protocol: p.Protocol, port: p.HostPort}
				if h.ip == "" {
					h.ip = anyIP
				}
				if h.protocol == "" {
					h.protocol = corev1.ProtocolTCP
				}
				out = append(out, h)
			}
		}
	}
	add(pod.Spec.Containers)
	for i := range pod.Spec.InitContainers { // sidecars keep their ports
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(pod.Spec.InitContainers[i : i+1])
		}
	}
	return out
}
