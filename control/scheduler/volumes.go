package scheduler

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"
)

// claims is what is known of volumes: claims, what they are bound to, and who
// uses them. Rules:
// https://kubernetes.io/docs/concepts/storage/persistent-volumes/ and
// https://kubernetes.io/docs/concepts/storage/storage-limits/.
type claims struct {
	served  bool // claims are looked after here at all
	byName  map[claimName]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	offers  map[offer]map[string]*corev1.PersistentVolume // the same, by whom they are for
	classes map[string]*storagev1.StorageClass
	drivers map[string]*storagev1.CSINode // by node
	// attachments are the names of volumes by the node and the attachment that
	// brings them there.
	attachments map[string]map[string]string
	users       map[claimName]map[*nodeState]int
	assumed     map[string]claimName // volumes given away whose writing is under way
}

type claimName struct{ namespace, name string }

// offer is whom a volume is for: a claim, or any claim of a class.
type offer struct {
	claim claimName
	class string
}

func offerOf(pv *corev1.PersistentVolume) offer {
	if ref := pv.Spec.ClaimRef; ref != nil {
		return offer{claim: claimName{ref.Namespace, ref.Name}}
	}
	return offer{class: volume.GetPersistentVolumeClass(pv)}
}

func newClaims() claims {
	return claims{byName: map[claimName]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{},
		offers:  map[offer]map[string]*corev1.PersistentVolume{},
		classes: map[string]*storagev1.StorageClass{}, drivers: map[string]*storagev1.CSINode{},
		attachments: map[string]map[string]string{},
		users:       map[claimName]map[*nodeState]int{}, assumed: map[string]claimName{}}
}

// use counts a pod's claims on its node.
func (c *claims) use(r *request, n *nodeState, by int) {
	for _, name := range r.claims {
		k := claimName{r.pod.Namespace, name}
		if c.users[k] == nil {
			c.users[k] = map[*nodeState]int{}
		}
		if c.users[k][n] += by; c.users[k][n] == 0 {
			if delete(c.users[k], n); len(c.users[k]) == 0 {
				delete(c.users, k)
			}
		}
	}
}

// volumeView is a pod's claims, sorted out once per decision.
type volumeView struct {
	problem  string // why no node at all will do
	bound    []*corev1.PersistentVolume
	lost     bool                            // a claim is bound to a volume that is not there
	waiting  []*corev1.PersistentVolumeClaim // for their first consumer
	offered  [][]*corev1.PersistentVolume    // to each of them
	taken    bool                            // a claim for one pod is in use
	takers   []claimName                     // those claims
	byDriver map[string][]string             // drivers and what this pod has of them
}

func (d *decision) volumeView() (v volumeView) {
	c, r := &d.snapshot.claims, d.request
	if !c.served {
		return v
	}
	immediate := false
	for _, name := range r.claims {
		k := claimName{r.pod.Namespace, name}
		claim := c.byName[k]
		switch {
		case claim == nil:
			v.problem = fmt.Sprintf("persistentvolumeclaim %q not found", name)
			return v
		case claim.Status.Phase == corev1.ClaimLost:
			v.problem = fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
			return v
		case claim.DeletionTimestamp != nil:
			v.problem = fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
			return v
		case claim.Spec.VolumeName != "" && claim.Status.Phase == corev1.ClaimBound:
			if pv := c.volumes[claim.Spec.VolumeName]; pv != nil {
				v.bound = append(v.bound, pv)
			} else {
				v.lost = true
			}
		case claim.Spec.VolumeName == "" && c.waits(claim):
			v.waiting = append(v.waiting, claim)
			v.offered = append(v.offered, slices.AppendSeq(slices.Collect(maps.Values(c.offers[offer{claim: k}])),
				maps.Values(c.offers[offer{class: volume.GetPersistentVolumeClaimClass(claim)}])))
		default:
			immediate = true
		}
		if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			v.takers = append(v.takers, k)
			v.taken = v.taken || len(c.users[k]) > 0
		}
	}
	if immediate {
		v.problem = "pod has unbound immediate PersistentVolumeClaims"
	}
	v.byDriver = c.driversOf(r)
	return v
}

// waits says whether a claim is bound only once its pod has a node.
func (c *claims) waits(claim *corev1.PersistentVolumeClaim) bool {
	class := c.classes[volume.GetPersistentVolumeClaimClass(claim)]
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// inUse says whether another pod has a claim that only one pod may have.
func (d *decision) inUse(*nodeState) bool {
	return slices.ContainsFunc(d.volumes.takers, func(k claimName) bool { return len(d.snapshot.claims.users[k]) > 0 })
}

// misplaced says whether a bound volume cannot be reached from the node.
func (d *decision) misplaced(n *nodeState) bool {
	return slices.ContainsFunc(d.volumes.bound, func(pv *corev1.PersistentVolume) bool {
		return volume.CheckNodeAffinity(pv, n.node.Labels) != nil
	})
}

// unbindable says whether the node has no volume for a claim that waits, and
// none can be made there.
func (d *decision) unbindable(n *nodeState) bool {
	_, ok := d.snapshot.claims.plan(&d.volumes, n.node)
	return !ok
}

// plan gives each waiting claim a volume that the node can reach, nil for one
// that is to be provisioned; ok is false when that is not possible.
func (c *claims) plan(v *volumeView, node *corev1.Node) (chosen []*corev1.PersistentVolume, ok bool) {
	if len(v.waiting) == 0 {
		return nil, true
	}
	taken := map[string]*corev1.PersistentVolume{}
	for name, owner := range c.assumed {
		if !slices.ContainsFunc(v.waiting, func(p *corev1.PersistentVolumeClaim) bool { return owner == claimName{p.Namespace, p.Name} }) {
			taken[name] = c.volumes[name]
		}
	}
	for i, claim := range v.waiting {
		if selected := claim.Annotations[volume.AnnSelectedNode]; selected != "" && selected != node.Name {
			return nil, false // being provisioned elsewhere
		}
		pv, err := volume.FindMatchingVolume(claim, v.offered[i], node, taken, false, true)
		if err != nil || pv == nil && !c.provisions(claim, node) {
			return nil, false
		}
		if pv != nil {
			taken[pv.Name] = pv
		}
		chosen = append(chosen, pv)
	}
	return chosen, true
}

// provisions says whether the claim's class makes volumes for the node.
func (c *claims) provisions(claim *corev1.PersistentVolumeClaim, node *corev1.Node) bool {
	class := c.classes[volume.GetPersistentVolumeClaimClass(claim)]
	if class == nil || class.Provisioner == "" || class.Provisioner == "kubernetes.io/no-provisioner" {
		return false
	}
	if len(class.AllowedTopologies) == 0 {
		return true
	}
	return slices.ContainsFunc(class.AllowedTopologies, func(t corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(t.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
			return !slices.Contains(e.Values, node.Labels[e.Key])
		})
	})
}

// ServeClaims says that claims and volumes are told to this snapshot; before
// that, pods are placed as if they had none.
func (s *Snapshot) ServeClaims() { s.claims.served = true }

// SetClaim tells about a claim.
func (s *Snapshot) SetClaim(c *corev1.PersistentVolumeClaim) {
	s.claims.byName[claimName{c.Namespace, c.Name}] = c
}

// RemoveClaim forgets a claim.
func (s *Snapshot) RemoveClaim(namespace, name string) {
	delete(s.claims.byName, claimName{namespace, name})
}

// SetVolume tells about a volume.
func (s *Snapshot) SetVolume(pv *corev1.PersistentVolume) {
	s.claims.forget(pv.Name)
	s.claims.volumes[pv.Name] = pv
	to := offerOf(pv)
	if s.claims.offers[to] == nil {
		s.claims.offers[to] = map[string]*corev1.PersistentVolume{}
	}
	s.claims.offers[to][pv.Name] = pv
	if pv.Spec.ClaimRef != nil {
		delete(s.claims.assumed, pv.Name)
	}
}

// RemoveVolume forgets a volume.
func (s *Snapshot) RemoveVolume(name string) {
	s.claims.forget(name)
	delete(s.claims.assumed, name)
}

// forget drops a volume as it was known.
func (c *claims) forget(name string) {
	pv := c.volumes[name]
	if pv == nil {
		return
	}
	delete(c.volumes, name)
	to := offerOf(pv)
	if delete(c.offers[to], name); len(c.offers[to]) == 0 {
		delete(c.offers, to)
	}
}

// SetClass tells about a storage class.
func (s *Snapshot) SetClass(class *storagev1.StorageClass) { s.claims.classes[class.Name] = class }

// RemoveClass forgets a storage class.
func (s *Snapshot) RemoveClass(name string) { delete(s.claims.classes, name) }
