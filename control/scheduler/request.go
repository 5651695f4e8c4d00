package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"wherry.dev/wherry/control/api"
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
	pod      *corev1.Pod
	priority int32
	// need is what must fit; weigh counts defaults for what is not requested.
	need, weigh amounts
	idle        bool // no container asks for CPU, memory or anything else
	ports       []hostPort
	owner       types.UID // of the controlling owner, "" without
	// affinity is nil when any node will do.
	affinity  *nodeMatch
	pinned    []string                               // names of the only nodes it may go to; nil: any
	preferred *nodeaffinity.PreferredSchedulingTerms // nil: no preference
	terms     *podTerms                              // nil: nothing about other pods
	spread    []spreadRule
	claims    []string // names of claims, those of ephemeral volumes too
	images    []string // of all containers, each once
}

// podTerms are what a pod asks about other pods.
type podTerms struct {
	affinity, anti []*term // required
	preferred      []*term // both kinds, by weight
}

func newRequest(pod *corev1.Pod) *request {
	r := &request{
		pod: pod,
		need: amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{
			UseStatusResources: pod.Spec.NodeName != ""})), // what a resize has not given back yet counts
		weigh: amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{
			UseStatusResources: pod.Spec.NodeName != "",
			NonMissingContainerRequests: corev1.ResourceList{
				corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
				corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
			}})),
		ports:  hostPorts(pod),
		spread: spreadRules(pod, pod.Spec.TopologySpreadConstraints),
	}
	r.idle = r.need.nothing()
	if pod.Spec.Priority != nil {
		r.priority = *pod.Spec.Priority
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		r.owner = owner.UID
	}
	r.readNodeAffinity()
	r.readPodAffinity()
	r.readVolumes()
	r.readImages()
	return r
}

// nothing says that no amount is asked for.
func (a *amounts) nothing() bool {
	return a.cpu == 0 && a.memory == 0 && a.storage == 0 && len(a.extended) == 0
}

func (r *request) readNodeAffinity() {
	pod := r.pod
	var terms []corev1.PreferredSchedulingTerm
	var required *corev1.NodeSelector
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if must := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; must != nil {
			required = must
			r.pinned = pins(must.NodeSelectorTerms)
		}
		terms = a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	}
	if len(pod.Spec.NodeSelector) > 0 || required != nil {
		r.affinity = newNodeMatch(pod.Spec.NodeSelector, required)
	}
	if len(terms) > 0 {
		// Terms that do not parse are refused at admission; here they count for nothing.
		if preferred, err := nodeaffinity.NewPreferredSchedulingTerms(terms); err == nil {
			r.preferred = preferred
		}
	}
}

// pins returns the node names that all terms together leave over, as a
// DaemonSet's pods have it; nil when some term leaves the name open.
func pins(terms []corev1.NodeSelectorTerm) []string {
	names := []string{}
	for i := range terms {
		at := slices.IndexFunc(terms[i].MatchFields, func(f corev1.NodeSelectorRequirement) bool {
			return f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn
		})
		if at < 0 {
			return nil
		}
		names = append(names, terms[i].MatchFields[at].Values...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (r *request) readPodAffinity() {
	a := r.pod.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return
	}
	r.terms = &podTerms{}
	read := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, sign int64, into *[]*term) {
		for i := range required {
			*into = append(*into, newTerm(r.pod, &required[i], 0))
		}
		for i := range preferred {
			t := &preferred[i]
			r.terms.preferred = append(r.terms.preferred, newTerm(r.pod, &t.PodAffinityTerm, sign*int64(t.Weight)))
		}
	}
	if near := a.PodAffinity; near != nil {
		read(near.RequiredDuringSchedulingIgnoredDuringExecution, near.PreferredDuringSchedulingIgnoredDuringExecution, 1, &r.terms.affinity)
	}
	if far := a.PodAntiAffinity; far != nil {
		read(far.RequiredDuringSchedulingIgnoredDuringExecution, far.PreferredDuringSchedulingIgnoredDuringExecution, -1, &r.terms.anti)
	}
}

func (r *request) readVolumes() {
	for i := range r.pod.Spec.Volumes {
		if name := api.ClaimOf(r.pod, &r.pod.Spec.Volumes[i]); name != "" {
			r.claims = append(r.claims, name)
		}
	}
}

func (r *request) readImages() {
	add := func(image string) {
		if image != "" && !slices.Contains(r.images, image) {
			r.images = append(r.images, image)
		}
	}
	for i := range r.pod.Spec.InitContainers {
		add(r.pod.Spec.InitContainers[i].Image)
	}
	for i := range r.pod.Spec.Containers {
		add(r.pod.Spec.Containers[i].Image)
	}
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
