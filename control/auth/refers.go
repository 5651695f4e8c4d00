package auth

import (
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

// refers tells whether a pod's spec names the Secret, ConfigMap,
// ServiceAccount or claim.
func refers(pod *corev1.Pod, resource, name string) bool {
	switch resource {
	case "serviceaccounts":
		return pod.Spec.ServiceAccountName == name
	case "secrets":
		return refersSecret(&pod.Spec, name)
	case "configmaps":
		return refersConfigMap(&pod.Spec, name)
	case "persistentvolumeclaims":
		for i := range pod.Spec.Volumes {
			if api.ClaimOf(pod, &pod.Spec.Volumes[i]) == name {
				return true
			}
		}
	}
	return false
}

func refersSecret(spec *corev1.PodSpec, name string) bool {
	for _, ref := range spec.ImagePullSecrets {
		if ref.Name == name {
			return true
		}
	}
	for _, v := range spec.Volumes {
		if v.Secret != nil && v.Secret.SecretName == name {
			return true
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.Secret != nil && s.Secret.Name == name {
				return true
			}
		}
	}
	return anyEnv(spec, func(from *corev1.EnvFromSource, ref *corev1.EnvVarSource) bool {
		return from != nil && from.SecretRef != nil && from.SecretRef.Name == name ||
			ref != nil && ref.SecretKeyRef != nil && ref.SecretKeyRef.Name == name
	})
}

func refersConfigMap(spec *corev1.PodSpec, name string) bool {
	for _, v := range spec.Volumes {
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			return true
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil && s.ConfigMap.Name == name {
				return true
			}
		}
	}
	return anyEnv(spec, func(from *corev1.EnvFromSource, ref *corev1.EnvVarSource) bool {
		return from != nil && from.ConfigMapRef != nil && from.ConfigMapRef.Name == name ||
			ref != nil && ref.ConfigMapKeyRef != nil && ref.ConfigMapKeyRef.Name == name
	})
}

// anyEnv calls match with each source of environment variables of a pod; one
// of its arguments is nil.
func anyEnv(spec *corev1.PodSpec, match func(*corev1.EnvFromSource, *corev1.EnvVarSource) bool) bool {
	groups := [][]corev1.Container{spec.InitContainers, spec.Containers}
	for _, group := range groups {
		for i := range group {
			for j := range group[i].EnvFrom {
				if match(&group[i].EnvFrom[j], nil) {
					return true
				}
			}
			for j := range group[i].Env {
				if ref := group[i].Env[j].ValueFrom; ref != nil && match(nil, ref) {
					return true
				}
			}
		}
	}
	return false
}
