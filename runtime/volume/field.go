package volume

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Node is what the downward API can say of the node a pod runs on.
type Node struct {
	HostIPs     []string            // the node's addresses, the preferred one first
	PodIPs      []string            // the pod's own addresses; they are not in its status yet at first start
	Claims      string              // directory of the volumes that were made for claims on this node
	Allocatable corev1.ResourceList // what a container without a limit is bounded by
}

// Field returns the value of a fieldRef path of the pod, as in
// "metadata.labels['app']" or "status.podIP". The paths are those that the
// Kubernetes documentation lists for the downward API.
func Field(pod *corev1.Pod, node Node, path string) (string, error) {
	if value, ok, err := subscript(pod, path); ok || err != nil {
		return value, err
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(node.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(node.HostIPs, ","), nil
	case "status.podIP":
		return first(node.PodIPs), nil
	case "status.podIPs":
		return strings.Join(node.PodIPs, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// subscript resolves metadata.labels['key'] and metadata.annotations['key'].
func subscript(pod *corev1.Pod, path string) (value string, ok bool, err error) {
	base, rest, found := strings.Cut(path, "['")
	if !found {
		return "", false, nil
	}
	key, found := strings.CutSuffix(rest, "']")
	if !found {
		return "", false, fmt.Errorf("invalid fieldPath %q: the subscript does not end in ']", path)
	}
	switch base {
	case "metadata.labels":
		return pod.Labels[key], true, nil
	case "metadata.annotations":
		return pod.Annotations[key], true, nil
	}
	return "", false, fmt.Errorf("fieldPath %q does not support subscript", path)
}

// formatMap writes one key="value" line per entry, sorted, as the downward
// API's files do.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for k, v := range m {
		lines = append(lines, fmt.Sprintf("%v=%q", k, v))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Resource returns the value of a resourceFieldRef. container is used when
// the reference names none. A limit that is not set is the node's allocatable
// amount; values are divided by the divisor and rounded up.
func Resource(pod *corev1.Pod, node Node, container string, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		container = ref.ContainerName
	}
	c := findContainer(pod, container)
	if c == nil {
		return "", fmt.Errorf("container %q not found", container)
	}
	kind, name, found := strings.Cut(ref.Resource, ".")
	if !found {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	resourceName := corev1.ResourceName(name)
	amount := c.Resources.Requests[resourceName]
	switch kind {
	case "limits":
		amount = c.Resources.Limits[resourceName]
		if amount.IsZero() {
			amount = node.Allocatable[resourceName]
		}
	case "requests":
	default:
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	return divide(resourceName, amount, ref.Divisor), nil
}

func divide(name corev1.ResourceName, amount, divisor resource.Quantity) string {
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == corev1.ResourceCPU {
		return ceil(amount.MilliValue(), divisor.MilliValue())
	}
	return ceil(amount.Value(), divisor.Value())
}

func ceil(amount, divisor int64) string {
	if divisor == 0 {
		divisor = 1
	}
	return strconv.FormatInt(int64(math.Ceil(float64(amount)/float64(divisor))), 10)
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
