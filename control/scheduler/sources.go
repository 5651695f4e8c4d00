package scheduler

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/control/api"
)

// follow feeds the snapshot from the informer of a resource. set and forget run
// in the goroutine that owns the snapshot and return what that may let happen.
func follow[T api.Object](s *Scheduler, r api.Resource, set func(before, after T) happening, forget func(T) happening) {
	s.watched = append(s.watched, r)
	s.cfg.Informers.For(r).OnChange(func(old, new api.Object) {
		before, _ := old.(T)
		after, isNew := new.(T)
		s.inbox.put(func(context.Context) {
			if isNew {
				s.happened |= set(before, after)
			} else {
				s.happened |= forget(before)
			}
		})
	})
}

// followAll wires the snapshot to everything that decisions depend on. Of the
// kinds that a cluster may lack, those that are served count.
func (s *Scheduler) followAll() {
	snap := s.snapshot
	follow(s, api.Nodes, s.nodeChanged, func(n *corev1.Node) happening { snap.RemoveNode(n.Name); return podComes })
	follow(s, api.Namespaces,
		func(_, n *corev1.Namespace) happening { snap.SetNamespace(n.Name, n.Labels); return 0 },
		func(n *corev1.Namespace) happening { snap.RemoveNamespace(n.Name); return 0 })
	for _, r := range s.cfg.Served {
		switch r.Group + "/" + r.Name {
		case "policy/poddisruptionbudgets":
			follow(s, r, func(_, b *policyv1.PodDisruptionBudget) happening { snap.SetBudget(b); return 0 },
				func(b *policyv1.PodDisruptionBudget) happening { snap.RemoveBudget(b.Namespace, b.Name); return 0 })
		case "/services":
			follow(s, r, func(_, v *corev1.Service) happening { snap.SetService(v); return 0 },
				func(v *corev1.Service) happening { snap.RemoveService(v.Namespace, v.Name); return 0 })
		case "/persistentvolumeclaims":
			snap.ServeClaims()
			follow(s, r, func(_, c *corev1.PersistentVolumeClaim) happening { snap.SetClaim(c); return volumeChanges },
				func(c *corev1.PersistentVolumeClaim) happening { snap.RemoveClaim(c.Namespace, c.Name); return 0 })
		case "/persistentvolumes":
			follow(s, r, func(_, v *corev1.PersistentVolume) happening { snap.SetVolume(v); return volumeChanges },
				func(v *corev1.PersistentVolume) happening { snap.RemoveVolume(v.Name); return 0 })
		case "storage.k8s.io/storageclasses":
			follow(s, r, func(_, c *storagev1.StorageClass) happening { snap.SetClass(c); return volumeChanges },
				func(c *storagev1.StorageClass) happening { snap.RemoveClass(c.Name); return 0 })
		case "storage.k8s.io/csinodes":
			follow(s, r, func(_, n *storagev1.CSINode) happening { snap.SetDrivers(n); return volumeChanges },
				func(n *storagev1.CSINode) happening { snap.RemoveDrivers(n.Name); return volumeChanges })
		case "storage.k8s.io/volumeattachments":
			follow(s, r, func(_, a *storagev1.VolumeAttachment) happening { snap.SetAttachment(a); return 0 },
				func(a *storagev1.VolumeAttachment) happening { snap.RemoveAttachment(a); return volumeChanges })
		}
	}
}

func (s *Scheduler) nodeChanged(before, after *corev1.Node) happening {
	s.snapshot.SetNode(after)
	what := nodeHappened(before, after)
	if what != 0 {
		s.roomOn(after.Name)
	}
	return what
}

// nodeHappened says what the change of a node may help; before is nil for a
// new one.
func nodeHappened(before, after *corev1.Node) (what happening) {
	if before == nil {
		return nodeComes
	}
	if !sameTaints(before, after) || !maps.Equal(before.Labels, after.Labels) {
		what |= nodeRelabel | podComes
	}
	if !maps.EqualFunc(before.Status.Allocatable, after.Status.Allocatable, resource.Quantity.Equal) {
		what |= nodeGrows
	}
	return what
}
