package agent

import (
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func (a *Agent) path(name string) string { return filepath.Join(a.cfg.Dir, name) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// nodeLabels are the well-known labels of the node and those it was given.
func (a *Agent) nodeLabels() map[string]string {
	labels := map[string]string{
		corev1.LabelHostname:      a.cfg.Name,
		corev1.LabelOSStable:      runtime.GOOS,
		corev1.LabelArchStable:    runtime.GOARCH,
		"beta.kubernetes.io/os":   runtime.GOOS,
		"beta.kubernetes.io/arch": runtime.GOARCH,
	}
	maps.Copy(labels, a.cfg.Labels)
	return labels
}

// currentLabels are the node's labels as the scheduler sees them: the API's,
// which users add to.
func (a *Agent) currentLabels() map[string]string {
	node, ok := a.node.Get(api.Nodes.Key("", a.cfg.Name))
	if !ok {
		return a.nodeLabels()
	}
	return node.GetLabels()
}

func (a *Agent) allocatable() corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(a.cfg.Capacity.CPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(a.cfg.Capacity.Memory, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(a.cfg.Capacity.Pods, resource.DecimalSI),
	}
	if n := a.cfg.Capacity.Storage; n > 0 {
		list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(n, resource.BinarySI)
	}
	return list
}

// newNode is the node as it registers itself.
func (a *Agent) newNode() *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Name, Labels: a.nodeLabels(),
		Annotations: map[string]string{api.AnnotationClaims: a.claims.dir}}}
	node.Status = a.nodeStatus(&corev1.NodeStatus{}, health{}, metav1.Now())
	return node
}

// health is what the node's conditions are made of.
type health struct {
	network                        bool // there is a podCIDR
	ending                         bool // the node is shutting down
	lowMemory, lowDisk, fewThreads bool
	memory, disk                   int64 // bytes that are free; 0: not known
	diskSize                       int64 // bytes, free or not; 0: not known
	fewInodes                      bool
	inodes, minInodes              int64 // that are free, and below which there are few
}

// nodeStatus computes the node's status; old gives the times of conditions
// that have not changed, and what others wrote.
func (a *Agent) nodeStatus(old *corev1.NodeStatus, h health, now metav1.Time) corev1.NodeStatus {
	s := *old.DeepCopy()
	s.Capacity, s.Allocatable = a.allocatable(), a.allocatable()
	for name, quantity := range old.Capacity {
		if extended(name) {
			s.Capacity[name], s.Allocatable[name] = quantity, quantity
		}
	}
	s.Addresses = slices.Clone(a.cfg.Addresses)
	s.Images = a.nodeImages()
	s.NodeInfo = corev1.NodeSystemInfo{
		KubeletVersion: a.cfg.Version, ContainerRuntimeVersion: a.cfg.RuntimeVersion,
		OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
	}
	describeMachine(&s.NodeInfo)
	s.RuntimeHandlers = nil
	for _, name := range a.cfg.RuntimeHandlers {
		s.RuntimeHandlers = append(s.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: name})
	}
	for _, c := range nodeConditions(h) {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		i := slices.IndexFunc(s.Conditions, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
		if i < 0 {
			s.Conditions = append(s.Conditions, c)
			continue
		}
		if s.Conditions[i].Status == c.Status {
			c.LastTransitionTime = s.Conditions[i].LastTransitionTime
		}
		s.Conditions[i] = c
	}
	return s
}

// extended says that a resource is none of the node's own but one that an
// administrator has written into its capacity
// (https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/).
func extended(name corev1.ResourceName) bool {
	domain, _, qualified := strings.Cut(string(name), "/")
	return qualified && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io")
}

// nodeConditions are kubelet's conditions in its own words, which dashboards
// and scripts look for.
func nodeConditions(h health) []corev1.NodeCondition {
	pressure := func(kind corev1.NodeConditionType, on bool, reasonOn, textOn, reasonOff, textOff string) corev1.NodeCondition {
		if on {
			return corev1.NodeCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reasonOn, Message: textOn}
		}
		return corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reasonOff, Message: textOff}
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
		Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	notReady := func(message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: message}
	}
	switch {
	case h.ending:
		ready = notReady("node is shutting down")
	case !h.network:
		ready = notReady("container runtime network not ready: the node has no podCIDR yet")
	}
	return []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, h.lowMemory, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		pressure(corev1.NodeDiskPressure, h.lowDisk, "KubeletHasDiskPressure", "kubelet has disk pressure",
			"KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		pressure(corev1.NodePIDPressure, h.fewThreads, "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		ready,
	}
}

// sameStatus compares two node statuses without their heartbeat times.
func sameStatus(a, b *corev1.NodeStatus) bool {
	strip := func(s *corev1.NodeStatus) *corev1.NodeStatus {
		s = s.DeepCopy()
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return s
	}
	return equalSemantic(strip(a), strip(b))
}
