package quota

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Add returns the sum of two lists.
func Add(a, b corev1.ResourceList) corev1.ResourceList {
	out := make(corev1.ResourceList, max(len(a), len(b)))
	for name, q := range a {
		out[name] = q.DeepCopy()
	}
	for name, q := range b {
		sum := out[name]
		if sum.Format == "" {
			sum.Format = q.Format
		}
		sum.Add(q)
		out[name] = sum
	}
	return out
}

// AddTo adds to a list what of another one has its names.
func AddTo(list, more corev1.ResourceList) {
	for name, q := range more {
		sum, ok := list[name]
		if !ok {
			continue
		}
		if sum.IsZero() {
			sum.Format = q.Format
		}
		sum.Add(q)
		list[name] = sum
	}
}

// Subtract returns a less b for what is in a; nothing becomes less than zero.
func Subtract(a, b corev1.ResourceList) corev1.ResourceList {
	out := make(corev1.ResourceList, len(a))
	for name, q := range a {
		left := q.DeepCopy()
		left.Sub(b[name])
		if left.Sign() < 0 {
			left = resource.Quantity{Format: q.Format}
		}
		out[name] = left
	}
	return out
}

// mask returns what of a list has one of the names of another one.
func mask(list, names corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range list {
		if _, ok := names[name]; ok {
			out[name] = q
		}
	}
	return out
}

// withoutZeros leaves out what is zero.
func withoutZeros(list corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range list {
		if !q.IsZero() {
			out[name] = q
		}
	}
	return out
}

// Equal tells whether two lists say the same, however they write it.
func Equal(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

// pretty renders a list as Kubernetes' messages do: "cpu=1,memory=1Gi".
func pretty(list corev1.ResourceList) string {
	parts := make([]string, 0, len(list))
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		parts = append(parts, string(name)+"="+q.String())
	}
	return strings.Join(parts, ",")
}
