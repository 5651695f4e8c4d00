package admission_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// TestMountableSecrets: an account may say that its pods use its own secrets
// only.
func TestMountableSecrets(t *testing.T) {
	b := newBed(t)
	b.create(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "careful", Namespace: "default",
		Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}}, Secrets: []corev1.ObjectReference{{Name: "mine"}},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}})
	careful := func(change func(*corev1.PodSpec)) *corev1.Pod {
		return pod("a", func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "careful"
			change(&p.Spec)
		})
	}
	key := func(name string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: "k"}}
	}
	volume := func(name string) []corev1.Volume {
		return []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}
	}
	for _, c := range []struct {
		refused string
		change  func(*corev1.PodSpec)
	}{
		{`volume with secret.secretName="other" is not allowed because service account careful does not reference that secret`,
			func(s *corev1.PodSpec) { s.Volumes = volume("other") }},
		{`container c with envVar e referencing secret.secretName="other" is not allowed`,
			func(s *corev1.PodSpec) { s.Containers[0].Env = []corev1.EnvVar{{Name: "e", ValueFrom: key("other")}} }},
		{`init container i with envFrom referencing secret.secretName="other" is not allowed`, func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Name: "i", Image: "i", EnvFrom: []corev1.EnvFromSource{{
				SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "other"}}}}}}
		}},
		{`imagePullSecrets[0].name="other" is not allowed because service account careful does not reference that imagePullSecret`,
			func(s *corev1.PodSpec) { s.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "other"}} }},
	} {
		b.refused(api.Pods, careful(c.change), c.refused)
	}
	b.create(api.Pods, careful(func(s *corev1.PodSpec) {
		s.Volumes = volume("mine")
		s.Containers[0].Env = []corev1.EnvVar{{Name: "e", ValueFrom: key("mine")}}
	}))
}
