package managed

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SameButTimes says that two lists of entries differ in nothing but the times
// at which they were written. When the rest of an object is the same too,
// nothing has changed and the old times stay.
func SameButTimes(a, b []metav1.ManagedFieldsEntry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameOwner(&a[i], &b[i]) || a[i].FieldsType != b[i].FieldsType || !sameFields(a[i].FieldsV1, b[i].FieldsV1) {
			return false
		}
	}
	return true
}

func sameOwner(a, b *metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.APIVersion == b.APIVersion && a.Subresource == b.Subresource
}

func sameFields(a, b *metav1.FieldsV1) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || a.Equal(*b)
}
