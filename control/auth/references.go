package auth

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"wherry.dev/wherry/control/api"
)

// reference is something that a pod of a node names.
type reference struct{ node, resource, namespace, name string }

// references counts how many pods of each node refer to what: an index that
// stays small however many pods there are, since most of a node's pods name the
// same few objects. It is safe for concurrent use.
type references struct {
	mu    sync.RWMutex
	count map[reference]int
}

// has tells whether a pod of the node refers to an object. It may be a moment
// behind the store.
func (r *references) has(is reference) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count[is] > 0
}

// observe takes in a change of a pod; old is nil for a new one, new for one
// that is gone.
func (r *references) observe(old, new *corev1.Pod) {
	if old != nil && new != nil && old.Spec.NodeName == new.Spec.NodeName && sameReferences(old, new) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(old, -1)
	r.add(new, 1)
}

// sameReferences tells whether a pod's change leaves alone all that it may refer
// to and that can change.
func sameReferences(old, new *corev1.Pod) bool {
	return len(old.Spec.EphemeralContainers) == len(new.Spec.EphemeralContainers) &&
		apiequality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, new.Status.ResourceClaimStatuses)
}

// add needs the lock.
func (r *references) add(pod *corev1.Pod, n int) {
	if pod == nil || pod.Spec.NodeName == "" {
		return
	}
	if r.count == nil {
		r.count = map[reference]int{}
	}
	EachReference(pod, func(resource, name string) bool {
		is := reference{pod.Spec.NodeName, resource, pod.Namespace, name}
		if r.count[is] += n; r.count[is] <= 0 {
			delete(r.count, is)
		}
		return true
	})
}

// refers tells whether a pod's spec names the Secret, ConfigMap,
// ServiceAccount or claim.
func refers(pod *corev1.Pod, resource, name string) bool {
	found := false
	EachReference(pod, func(r, n string) bool {
		found = r == resource && n == name
		return !found
	})
	return found
}

// EachReference calls yield with what a pod refers to in its namespace, until it
// returns false. The same object may come several times.
func EachReference(pod *corev1.Pod, yield func(resource, name string) bool) {
	on := true
	visit := func(resource, name string) {
		if on && name != "" {
			on = yield(resource, name)
		}
	}
	spec := &pod.Spec
	visit(api.ServiceAccounts.Name, spec.ServiceAccountName)
	for _, ref := range spec.ImagePullSecrets {
		visit(api.Secrets.Name, ref.Name)
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		visit(api.PersistentVolumeClaims.Name, api.ClaimOf(pod, v))
		if v.Secret != nil {
			visit(api.Secrets.Name, v.Secret.SecretName)
		}
		if v.ConfigMap != nil {
			visit(api.ConfigMaps.Name, v.ConfigMap.Name)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				visit(api.Secrets.Name, s.Secret.Name)
			}
			if s.ConfigMap != nil {
				visit(api.ConfigMaps.Name, s.ConfigMap.Name)
			}
		}
	}
	for i := range pod.Status.ResourceClaimStatuses {
		if name := pod.Status.ResourceClaimStatuses[i].ResourceClaimName; name != nil {
			visit(api.ResourceClaims.Name, *name)
		}
	}
	for i := range spec.ResourceClaims {
		if name := spec.ResourceClaims[i].ResourceClaimName; name != nil {
			visit(api.ResourceClaims.Name, *name)
		}
	}
	for _, group := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range group {
			environment(group[i].EnvFrom, group[i].Env, visit)
		}
	}
	for i := range spec.EphemeralContainers {
		environment(spec.EphemeralContainers[i].EnvFrom, spec.EphemeralContainers[i].Env, visit)
	}
}

// environment visits the sources of a container's environment variables.
func environment(sources []corev1.EnvFromSource, variables []corev1.EnvVar, visit func(resource, name string)) {
	for _, from := range sources {
		if from.SecretRef != nil {
			visit(api.Secrets.Name, from.SecretRef.Name)
		}
		if from.ConfigMapRef != nil {
			visit(api.ConfigMaps.Name, from.ConfigMapRef.Name)
		}
	}
	for i := range variables {
		from := variables[i].ValueFrom
		if from == nil {
			continue
		}
		if from.SecretKeyRef != nil {
			visit(api.Secrets.Name, from.SecretKeyRef.Name)
		}
		if from.ConfigMapKeyRef != nil {
			visit(api.ConfigMaps.Name, from.ConfigMapKeyRef.Name)
		}
	}
}
