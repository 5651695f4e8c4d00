package admission

import (
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestTokenVolumeOfAController: all pods of a controller mount their tokens by one
// name, which looks like Kubernetes'.
func TestTokenVolumeOfAController(t *testing.T) {
	controls, isOwner := true, false
	name := func(owners ...metav1.OwnerReference) string {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: owners}}
		pod.Spec.Containers = []corev1.Container{{Name: "web"}}
		mountToken(pod)
		if len(pod.Spec.Volumes) != 1 || pod.Spec.Containers[0].VolumeMounts[0].Name != pod.Spec.Volumes[0].Name {
			t.Fatalf("volumes %v, mounts %v", pod.Spec.Volumes, pod.Spec.Containers[0].VolumeMounts)
		}
		return pod.Spec.Volumes[0].Name
	}
	controller := func(uid types.UID) metav1.OwnerReference {
		return metav1.OwnerReference{UID: uid, Controller: &controls}
	}
	one, again, other := name(controller("3c0f0e5e")), name(controller("3c0f0e5e")), name(controller("4d1f0e5e"))
	if one != again || one == other {
		t.Errorf("pods of one controller have %s and %s, of another one %s", one, again, other)
	}
	shape := regexp.MustCompile(`^kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	for _, volume := range []string{one, other, name(), name(metav1.OwnerReference{UID: "3c0f0e5e", Controller: &isOwner})} {
		if !shape.MatchString(volume) {
			t.Errorf("volume %q", volume)
		}
	}
}
