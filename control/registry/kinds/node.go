package kinds

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

// Nodes is the kind Node.
func Nodes() Strategy[*corev1.Node] {
	return Strategy[*corev1.Node]{
		Resource:       api.Nodes,
		Default:        defaultNode,
		Validate:       validateNode,
		ValidateUpdate: validateNodeUpdate,
		Warnings:       nodeWarnings,
		Spec:           func(n *corev1.Node) any { return &n.Spec },
		Status:         func(n *corev1.Node) any { return &n.Status },
		ValidateStatus: validateNodeUpdate,
		Fields: map[string]func(*corev1.Node) string{
			"spec.unschedulable": func(n *corev1.Node) string { return strconv.FormatBool(n.Spec.Unschedulable) },
		},
		Columns: columns("Name", "Status", "Roles", "Age", "Version", "+Internal-IP", "+External-IP", "+OS-Image",
			"+Kernel-Version", "+Container-Runtime"),
		Row: nodeRow,
	}
}

func defaultNode(n *corev1.Node) {
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	roundResources(n.Status.Capacity)
	roundResources(n.Status.Allocatable)
	// The older of the two fields decides.
	switch {
	case n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0:
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	case n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR):
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
}

// nodeRole prefixes the labels whose names are roles.
const nodeRole = "node-role.kubernetes.io/"

func nodeRow(n *corev1.Node, now time.Time) []any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	var roles []string
	for label, value := range n.Labels {
		if role, ok := strings.CutPrefix(label, nodeRole); ok && role != "" {
			roles = append(roles, role)
		} else if label == "kubernetes.io/role" && value != "" {
			roles = append(roles, value)
		}
	}
	slices.Sort(roles)
	info := n.Status.NodeInfo
	return []any{n.Name, status, none(strings.Join(slices.Compact(roles), ",")), age(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		unknown(info.OSImage), kernelText(&info), unknown(info.ContainerRuntimeVersion)}
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return "<none>"
}

// kernelText is a node's kernel with what it runs on.
func kernelText(info *corev1.NodeSystemInfo) string {
	if info.Architecture == "" {
		return unknown(info.KernelVersion)
	}
	return unknown(info.KernelVersion) + " (" + info.Architecture + ")"
}

func unknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}
