package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// filter is one reason not to take a node. Names and texts are those of
// kube-scheduler's plugins.
type filter struct {
	name string
	// asks says whether the pod has anything to ask here; nil: always.
	asks func(*decision) bool
	// refuses says whether the node does not take the pod. It is the hot path.
	refuses func(*decision, *nodeState) bool
	// text is why; why, where it is set, says it more exactly.
	text string
	why  func(*decision, *nodeState) []string
	// final, where it is set, says that the end of other pods changes nothing.
	final func(*decision, *nodeState) bool
	// freed says what may make the filter change its mind.
	freed happening
}

func always(*decision, *nodeState) bool { return true }

// filters returns the table, in the order in which a node is asked: the first
// that refuses gives the reason.
func filters() []filter {
	return []filter{
		{name: "NodeUnschedulable", text: "node(s) were unschedulable", final: always, freed: nodeChanges,
			refuses: func(d *decision, n *nodeState) bool {
				return n.node.Spec.Unschedulable && !toleratesCordon(d.request.pod)
			}},
		{name: "NodeName", text: "node(s) didn't match the requested node name", final: always, freed: nodeComes,
			asks:    func(d *decision) bool { return d.request.pod.Spec.NodeName != "" },
			refuses: func(d *decision, n *nodeState) bool { return d.request.pod.Spec.NodeName != n.name }},
		{name: "TaintToleration", final: always, freed: nodeChanges,
			refuses: func(d *decision, n *nodeState) bool {
				return len(n.hard) > 0 && untolerated(d.request.pod, n.hard) != nil
			},
			why: func(d *decision, n *nodeState) []string {
				taint := untolerated(d.request.pod, n.hard)
				return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)}
			}},
		{name: "NodeAffinity", text: "node(s) didn't match Pod's node affinity/selector", final: always, freed: nodeChanges,
			asks: func(d *decision) bool { return d.request.affinity != nil || d.profile.AddedAffinity != nil },
			refuses: func(d *decision, n *nodeState) bool {
				return d.request.affinity != nil && !d.request.affinity.matches(n.node) || !d.profile.admits(n)
			},
			why: func(d *decision, n *nodeState) []string {
				if !d.profile.admits(n) {
					return []string{"node(s) didn't match scheduler-enforced node affinity"}
				}
				return []string{"node(s) didn't match Pod's node affinity/selector"}
			}},
		{name: "ImageRuntime", final: always, freed: nodeChanges | imageKnown,
			asks: func(d *decision) bool { return len(d.images.needs) > 0 }, refuses: (*decision).foreign, why: (*decision).whyForeign},
		{name: "NodePorts", text: "node(s) didn't have free ports for the requested pod ports", freed: podLeaves | nodeComes,
			asks:    func(d *decision) bool { return len(d.request.ports) > 0 },
			refuses: func(d *decision, n *nodeState) bool { return !n.portsFree(d.request) }},
		{name: "NodeResourcesFit", freed: podLeaves | nodeComes | nodeGrows,
			refuses: func(d *decision, n *nodeState) bool { return !n.hasRoom(d.request) },
			why:     func(d *decision, n *nodeState) []string { return n.lacks(d.request) },
			final:   func(d *decision, n *nodeState) bool { return n.tooSmall(d.request) }},
		{name: "VolumeRestrictions", freed: podLeaves | volumeChanges,
			text:    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
			asks:    func(d *decision) bool { return len(d.volumes.takers) > 0 },
			refuses: (*decision).inUse},
		{name: "NodeVolumeLimits", text: "node(s) exceed max volume count", freed: podLeaves | volumeChanges,
			asks: func(d *decision) bool { return len(d.volumes.byDriver) > 0 }, refuses: (*decision).overLimit},
		{name: "VolumeBinding", final: always, freed: volumeChanges | nodeChanges,
			asks: func(d *decision) bool {
				return len(d.volumes.bound)+len(d.volumes.waiting) > 0 || d.volumes.lost
			},
			refuses: func(d *decision, n *nodeState) bool { return d.volumes.lost || d.misplaced(n) || d.unbindable(n) },
			why: func(d *decision, n *nodeState) []string {
				var why []string
				if d.volumes.lost {
					why = append(why, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
				}
				if d.misplaced(n) {
					why = append(why, "node(s) didn't match PersistentVolume's node affinity")
				}
				if d.unbindable(n) {
					why = append(why, "node(s) didn't find available persistent volumes to bind")
				}
				return why
			}},
		{name: "VolumeZone", text: "node(s) had no available volume zone", final: always, freed: volumeChanges | nodeChanges,
			asks: func(d *decision) bool { return len(d.volumes.bound) > 0 },
			refuses: func(d *decision, n *nodeState) bool {
				return slices.ContainsFunc(d.volumes.bound, func(pv *corev1.PersistentVolume) bool { return zonesDiffer(pv, n.node) })
			}},
		{name: "PodTopologySpread", freed: podLeaves | podComes | nodeChanges,
			asks: func(d *decision) bool { return len(d.hard) > 0 },
			refuses: func(d *decision, n *nodeState) bool {
				return slices.ContainsFunc(d.hard, func(v spreadView) bool { return v.skewed(n) })
			},
			why: func(d *decision, n *nodeState) []string {
				if d.withoutLabel(n) {
					return []string{"node(s) didn't match pod topology spread constraints (missing required label)"}
				}
				return []string{"node(s) didn't match pod topology spread constraints"}
			},
			final: (*decision).withoutLabel},
		{name: "InterPodAffinity", freed: podLeaves | podComes | nodeChanges,
			asks: func(d *decision) bool { return len(d.others.near)+len(d.others.far)+len(d.others.repel) > 0 },
			refuses: func(d *decision, n *nodeState) bool {
				return d.others.lonely(n) || d.others.crowded(n) || d.others.repelled(n)
			},
			why: func(d *decision, n *nodeState) []string {
				switch {
				case d.others.lonely(n):
					return []string{"node(s) didn't match pod affinity rules"}
				case d.others.crowded(n):
					return []string{"node(s) didn't match pod anti-affinity rules"}
				default:
					return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
				}
			},
			final: func(d *decision, n *nodeState) bool { return d.others.lonely(n) }},
	}
}

func (d *decision) withoutLabel(n *nodeState) bool {
	return slices.ContainsFunc(d.hard, func(v spreadView) bool { return v.unlabelled(n) })
}

const (
	whyPods         = "Too many pods"
	whyInsufficient = "Insufficient " // and the resource
)

// hasRoom says whether what is left of the node is enough.
func (n *nodeState) hasRoom(r *request) bool {
	if int64(len(n.pods)) >= n.maxPods {
		return false
	}
	if r.idle {
		return true
	}
	return within(r.need.cpu, n.used.cpu, n.allocatable.cpu) &&
		within(r.need.memory, n.used.memory, n.allocatable.memory) &&
		within(r.need.storage, n.used.storage, n.allocatable.storage) &&
		(r.need.extended == nil || n.hasExtended(r))
}

func (n *nodeState) hasExtended(r *request) bool {
	for name, need := range r.need.extended {
		if !within(need, n.used.extended[name], n.allocatable.extended[name]) {
			return false
		}
	}
	return true
}

// lacks names what the node has not enough of left.
func (n *nodeState) lacks(r *request) []string {
	var out []string
	if int64(len(n.pods)) >= n.maxPods {
		out = append(out, whyPods)
	}
	if !within(r.need.cpu, n.used.cpu, n.allocatable.cpu) {
		out = append(out, whyInsufficient+string(corev1.ResourceCPU))
	}
	if !within(r.need.memory, n.used.memory, n.allocatable.memory) {
		out = append(out, whyInsufficient+string(corev1.ResourceMemory))
	}
	if !within(r.need.storage, n.used.storage, n.allocatable.storage) {
		out = append(out, whyInsufficient+string(corev1.ResourceEphemeralStorage))
	}
	for name, need := range r.need.extended {
		if !within(need, n.used.extended[name], n.allocatable.extended[name]) {
			out = append(out, whyInsufficient+string(name))
		}
	}
	return out
}

// tooSmall says that even the empty node would not take the pod.
func (n *nodeState) tooSmall(r *request) bool {
	for name, need := range r.need.extended {
		if !within(need, 0, n.allocatable.extended[name]) {
			return true
		}
	}
	return n.maxPods < 1 || !within(r.need.cpu, 0, n.allocatable.cpu) ||
		!within(r.need.memory, 0, n.allocatable.memory) || !within(r.need.storage, 0, n.allocatable.storage)
}

// within says whether need more fits; nothing always fits.
func within(need, used, allocatable int64) bool { return need <= 0 || need <= allocatable-used }

func (n *nodeState) portsFree(r *request) bool {
	for _, p := range r.ports {
		if slices.ContainsFunc(n.ports, p.conflicts) {
			return false
		}
	}
	return true
}

// cordon is the taint that stands for spec.unschedulable.
var cordon = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func toleratesCordon(pod *corev1.Pod) bool { return tolerates(pod.Spec.Tolerations, &cordon) }

// untolerated returns the first taint that the pod does not tolerate.
func untolerated(pod *corev1.Pod, taints []corev1.Taint) *corev1.Taint {
	for i := range taints {
		if !tolerates(pod.Spec.Tolerations, &taints[i]) {
			return &taints[i]
		}
	}
	return nil
}

// tolerates follows
// https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/.
func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		if t.Operator == corev1.TolerationOpExists ||
			(t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value {
			return true
		}
	}
	return false
}
