package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Why a node does not take a pod, in kube-scheduler's words.
const (
	whyName          = "node(s) didn't match the requested node name"
	whyUnschedulable = "node(s) were unschedulable"
	whyAffinity      = "node(s) didn't match Pod's node affinity/selector"
	whyPorts         = "node(s) didn't have free ports for the requested pod ports"
	whyPods          = "Too many pods"
	whyInsufficient  = "Insufficient " // and the resource
)

// Reasons say why no node took a pod.
type Reasons struct {
	Nodes  int            // how many were asked
	Counts map[string]int // how many of them gave each reason; a node may give several
}

// String renders the reasons as kube-scheduler's events and conditions do.
func (r Reasons) String() string {
	if r.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	parts := make([]string, 0, len(r.Counts))
	for why, n := range r.Counts {
		parts = append(parts, strconv.Itoa(n)+" "+why)
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", r.Nodes, strings.Join(parts, ", "))
}

// room says whether the end of a pod somewhere may help: some node lacked
// nothing but resources or ports.
func (r Reasons) room() bool {
	for why := range maps.Keys(r.Counts) {
		if why == whyPods || why == whyPorts || strings.HasPrefix(why, whyInsufficient) {
			return true
		}
	}
	return false
}

// fits says whether the node takes the pod. It is the hot path: refusal
// collects the reasons.
func (n *nodeState) fits(r *request) bool {
	if r.pod.Spec.NodeName != "" && r.pod.Spec.NodeName != n.name {
		return false
	}
	if n.node.Spec.Unschedulable && !toleratesCordon(r.pod) {
		return false
	}
	if len(n.hard) > 0 && untolerated(r.pod, n.hard) != nil {
		return false
	}
	if r.affinity != nil && !n.matches(r) {
		return false
	}
	if len(r.ports) > 0 && !n.portsFree(r) {
		return false
	}
	if int64(len(n.pods)) >= n.maxPods {
		return false
	}
	return within(r.need.cpu, n.used.cpu, n.allocatable.cpu) &&
		within(r.need.memory, n.used.memory, n.allocatable.memory) &&
		within(r.need.storage, n.used.storage, n.allocatable.storage) &&
		(r.need.extended == nil || n.lacks(r) == nil)
}

// refusal gives the reasons of the first filter that refuses, in the order of
// kube-scheduler's plugins. It is empty when the node takes the pod.
func (n *nodeState) refusal(r *request) []string {
	if r.pod.Spec.NodeName != "" && r.pod.Spec.NodeName != n.name {
		return []string{whyName}
	}
	if n.node.Spec.Unschedulable && !toleratesCordon(r.pod) {
		return []string{whyUnschedulable}
	}
	if taint := untolerated(r.pod, n.hard); taint != nil {
		return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)}
	}
	if r.affinity != nil && !n.matches(r) {
		return []string{whyAffinity}
	}
	if !n.portsFree(r) {
		return []string{whyPorts}
	}
	var why []string
	if int64(len(n.pods)) >= n.maxPods {
		why = append(why, whyPods)
	}
	for _, name := range n.lacks(r) {
		why = append(why, whyInsufficient+name)
	}
	return why
}

// lacks names the resources of which the node has not enough left.
func (n *nodeState) lacks(r *request) []string {
	var out []string
	if !within(r.need.cpu, n.used.cpu, n.allocatable.cpu) {
		out = append(out, string(corev1.ResourceCPU))
	}
	if !within(r.need.memory, n.used.memory, n.allocatable.memory) {
		out = append(out, string(corev1.ResourceMemory))
	}
	if !within(r.need.storage, n.used.storage, n.allocatable.storage) {
		out = append(out, string(corev1.ResourceEphemeralStorage))
	}
	for name, need := range r.need.extended {
		if !within(need, n.used.extended[name], n.allocatable.extended[name]) {
			out = append(out, string(name))
		}
	}
	return out
}

// within says whether need more fits; nothing always fits.
func within(need, used, allocatable int64) bool { return need <= 0 || need <= allocatable-used }

func (n *nodeState) matches(r *request) bool {
	ok, err := r.affinity.Match(n.node)
	return ok && err == nil // a selector that does not parse matches no node
}

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
