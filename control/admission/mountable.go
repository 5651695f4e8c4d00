package admission

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// mountableOnly is the annotation of a service account whose pods may use no
// secrets but those that the account lists.
const mountableOnly = "kubernetes.io/enforce-mountable-secrets"

// checkMountable refuses a pod that uses a secret its account does not list. Of
// a pod that is debugged, only its new containers are looked at.
func checkMountable(account *corev1.ServiceAccount, pod *corev1.Pod, debugged bool) error {
	listed := func(name string) bool {
		return slices.ContainsFunc(account.Secrets, func(s corev1.ObjectReference) bool { return s.Name == name })
	}
	refuse := func(what, secret string) error {
		return fmt.Errorf("%s secret.secretName=%q is not allowed because service account %s does not reference that secret", what, secret, account.Name)
	}
	check := func(word string, c *corev1.Container) error {
		for _, env := range c.Env {
			if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil && !listed(env.ValueFrom.SecretKeyRef.Name) {
				return refuse(fmt.Sprintf("%s %s with envVar %s referencing", word, c.Name, env.Name), env.ValueFrom.SecretKeyRef.Name)
			}
		}
		for _, env := range c.EnvFrom {
			if env.SecretRef != nil && !listed(env.SecretRef.Name) {
				return refuse(fmt.Sprintf("%s %s with envFrom referencing", word, c.Name), env.SecretRef.Name)
			}
		}
		return nil
	}
	if debugged {
		for _, c := range pod.Spec.EphemeralContainers {
			if err := check("ephemeral container", (*corev1.Container)(&c.EphemeralContainerCommon)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !listed(v.Secret.SecretName) {
			return refuse("volume with", v.Secret.SecretName)
		}
	}
	for i := range pod.Spec.InitContainers {
		if err := check("init container", &pod.Spec.InitContainers[i]); err != nil {
			return err
		}
	}
	for i := range pod.Spec.Containers {
		if err := check("container", &pod.Spec.Containers[i]); err != nil {
			return err
		}
	}
	for i, ref := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(account.ImagePullSecrets, ref) {
			return fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, ref.Name, account.Name)
		}
	}
	return nil
}
