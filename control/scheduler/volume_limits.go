package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"
)

// overLimit says whether the pod's volumes are more than a driver of the node
// takes, as its CSINode says. A volume that is there already counts once.
func (d *decision) overLimit(n *nodeState) bool {
	drivers := d.snapshot.claims.drivers[n.name]
	if drivers == nil {
		return false
	}
	var there map[string]map[string]bool
	for _, driver := range drivers.Spec.Drivers {
		wanted := d.volumes.byDriver[driver.Name]
		if len(wanted) == 0 || driver.Allocatable == nil || driver.Allocatable.Count == nil {
			continue
		}
		if there == nil {
			there = d.snapshot.claims.onNode(n)
		}
		count := len(there[driver.Name])
		for _, id := range wanted {
			if !there[driver.Name][id] {
				count++
			}
		}
		if count > int(*driver.Allocatable.Count) {
			return true
		}
	}
	return false
}

// driversOf are the drivers of a pod's volumes, and what tells the volumes of
// each apart, every one once.
func (c *claims) driversOf(r *request) map[string][]string {
	var found map[string][]string
	seen := map[[2]string]bool{}
	for _, name := range r.claims {
		driver, id := c.driverOf(claimName{r.pod.Namespace, name})
		if driver == "" || seen[[2]string{driver, id}] {
			continue
		}
		if seen[[2]string{driver, id}] = true; found == nil {
			found = map[string][]string{}
		}
		found[driver] = append(found[driver], id)
	}
	return found
}

// driverOf is the CSI driver of a claim's volume and the volume's handle; of a
// claim without one yet, the driver that is going to provision it, and the
// claim's name. driver is "" when there is none.
func (c *claims) driverOf(k claimName) (driver, id string) {
	claim := c.byName[k]
	if claim == nil {
		return "", ""
	}
	if claim.Spec.VolumeName != "" {
		return csiOf(c.volumes[claim.Spec.VolumeName])
	}
	class := c.classes[volume.GetPersistentVolumeClaimClass(claim)]
	if class == nil {
		return "", ""
	}
	return class.Provisioner, "claim " + k.namespace + "/" + k.name
}

func csiOf(pv *corev1.PersistentVolume) (driver, id string) {
	if pv == nil || pv.Spec.CSI == nil {
		return "", ""
	}
	return pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle
}

// onNode are the volumes on a node by driver: those of its pods, and those that
// are attached there for pods that are gone or are not known yet.
func (c *claims) onNode(n *nodeState) map[string]map[string]bool {
	there := map[string]map[string]bool{}
	note := func(driver, id string) {
		if driver == "" {
			return
		}
		if there[driver] == nil {
			there[driver] = map[string]bool{}
		}
		there[driver][id] = true
	}
	for _, r := range n.pods {
		for _, name := range r.claims {
			note(c.driverOf(claimName{r.pod.Namespace, name}))
		}
	}
	for _, name := range c.attachments[n.name] {
		note(csiOf(c.volumes[name]))
	}
	return there
}

// SetDrivers tells what storage drivers a node has.
func (s *Snapshot) SetDrivers(n *storagev1.CSINode) { s.claims.drivers[n.Name] = n }

// RemoveDrivers forgets a node's storage drivers.
func (s *Snapshot) RemoveDrivers(node string) { delete(s.claims.drivers, node) }

// SetAttachment tells that a volume is attached to a node, or about to be.
func (s *Snapshot) SetAttachment(a *storagev1.VolumeAttachment) {
	if a.Spec.Source.PersistentVolumeName == nil {
		return
	}
	on := s.claims.attachments[a.Spec.NodeName]
	if on == nil {
		on = map[string]string{}
		s.claims.attachments[a.Spec.NodeName] = on
	}
	on[a.Name] = *a.Spec.Source.PersistentVolumeName
}

// RemoveAttachment forgets an attachment. Its spec never changes.
func (s *Snapshot) RemoveAttachment(a *storagev1.VolumeAttachment) {
	on := s.claims.attachments[a.Spec.NodeName]
	if delete(on, a.Name); len(on) == 0 {
		delete(s.claims.attachments, a.Spec.NodeName)
	}
}
