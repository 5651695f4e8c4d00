package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// provision has a volume made for a claim: by the node-local provisioner here,
// or by one elsewhere, which is told by annotations.
func (c *volumeBinder) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	if class.Provisioner == volume.NotSupportedProvisioner {
		c.recorder.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner)
		_, err := c.writeClaimStatus(ctx, claim, corev1.ClaimPending, nil)
		return err
	}
	if claim.Annotations[volume.AnnStorageProvisioner] != class.Provisioner || claim.Annotations[volume.AnnBetaStorageProvisioner] != class.Provisioner {
		changed := claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, volume.AnnStorageProvisioner, class.Provisioner)
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, volume.AnnBetaStorageProvisioner, class.Provisioner)
		var err error
		if claim, err = c.writeClaim(ctx, changed, ""); err != nil {
			return err
		}
	}
	if class.Provisioner != api.LocalProvisioner {
		c.recorder.Event(claim, corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' "+
			"or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
			class.Provisioner)
		return nil
	}
	return c.provisionLocal(ctx, claim, class)
}

// provisionLocal makes the volume of a directory. What cannot be fixed by
// trying again waits for a change.
func (c *volumeBinder) provisionLocal(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	recorder := c.recorder.For(api.LocalProvisioner)
	refuse := func(err error) {
		recorder.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
	}
	if err := localClaim(claim, class); err != nil {
		refuse(err)
		return nil
	}
	node, err := c.nodeFor(claim, class)
	if err != nil {
		refuse(err)
		return c.reschedule(ctx, claim)
	}
	pv := localVolume(claim, class, node)
	recorder.Event(claim, corev1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", claimID(claim))
	key := api.PersistentVolumes.KeyOf(pv)
	made, err := c.client.Create(ctx, key, pv, api.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // its arrival wakes the claim
	}
	if err != nil {
		refuse(err)
		return fmt.Errorf("create %s: %w", key, err)
	}
	recorder.Event(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", pv.Name)
	typed, ok := made.(*corev1.PersistentVolume)
	if !ok {
		return fmt.Errorf("create %s: got a %T", key, made)
	}
	return c.bind(ctx, typed, claim)
}

// reschedule takes back the choice of a node that can make no volume, so that
// the scheduler makes another one.
func (c *volumeBinder) reschedule(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Annotations[volume.AnnSelectedNode] == "" {
		return nil
	}
	changed := claim.DeepCopy()
	delete(changed.Annotations, volume.AnnSelectedNode)
	_, err := c.writeClaim(ctx, changed, "")
	return err
}

// localClaim says why a directory cannot be what a claim asks for.
func localClaim(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	for _, mode := range claim.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return fmt.Errorf("access mode %s is not supported: a directory of one node is ReadWriteOnce or ReadWriteOncePod", mode)
		}
	}
	switch {
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return errors.New("volumeMode Block is not supported: a directory is a Filesystem")
	case claim.Spec.Selector != nil:
		return errors.New("claim Selector is not supported")
	case claim.Spec.DataSourceRef != nil || claim.Spec.DataSource != nil:
		return errors.New("dataSource is not supported: a volume begins empty")
	case len(class.Parameters) > 0:
		return fmt.Errorf("the class has unknown parameters %v", slices.Sorted(maps.Keys(class.Parameters)))
	}
	return nil
}

// nodeFor is the node where a claim's volume is to be made: the one that was
// chosen for its pod or, for a class that binds at once, the one with the
// fewest such volumes.
func (c *volumeBinder) nodeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (*corev1.Node, error) {
	if name := claim.Annotations[volume.AnnSelectedNode]; name != "" {
		obj, _ := c.nodes.Get(api.Nodes.Key("", name))
		node, ok := obj.(*corev1.Node)
		if !ok {
			return nil, fmt.Errorf("the selected node %q is not there", name)
		}
		if node.Annotations[api.AnnotationClaims] == "" {
			return nil, fmt.Errorf("the selected node %q keeps no volumes: it has no annotation %s", name, api.AnnotationClaims)
		}
		return node, nil
	}
	has := map[string]int{}
	for _, pv := range reconcile.As[*corev1.PersistentVolume](c.volumes.List("")) {
		if pv.Annotations[api.AnnotationProvisioner] == api.LocalProvisioner {
			has[pv.Labels[corev1.LabelHostname]]++
		}
	}
	var best *corev1.Node
	for _, node := range reconcile.As[*corev1.Node](c.nodes.List("")) {
		if !keepsVolumes(node) || !within(node, class.AllowedTopologies) {
			continue
		}
		a, b := has[node.Labels[corev1.LabelHostname]], 0
		if best != nil {
			b = has[best.Labels[corev1.LabelHostname]]
		}
		if best == nil || a < b || a == b && node.Name < best.Name {
			best = node
		}
	}
	if best == nil {
		return nil, errors.New("no node is ready that keeps volumes and is in the class' allowedTopologies")
	}
	return best, nil
}

// keepsVolumes says whether new volumes can be made on a node.
func keepsVolumes(node *corev1.Node) bool {
	return node.Annotations[api.AnnotationClaims] != "" && !node.Spec.Unschedulable && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// within says whether a node is in one of the topologies; none allow all.
func within(node *corev1.Node, topologies []corev1.TopologySelectorTerm) bool {
	return len(topologies) == 0 || slices.ContainsFunc(topologies, func(t corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(t.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
			return !slices.Contains(e.Values, node.Labels[e.Key])
		})
	})
}

// localVolume is the volume of a claim on a node, given to the claim from the
// start. Its name follows from the claim, so that it is made once.
func localVolume(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) *corev1.PersistentVolume {
	name, host := "pvc-"+string(claim.UID), node.Labels[corev1.LabelHostname]
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: host},
			Annotations: map[string]string{volume.AnnDynamicallyProvisioned: api.LocalProvisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   slices.Clone(claim.Spec.AccessModes),
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			MountOptions:                  slices.Clone(class.MountOptions),
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name,
				UID: claim.UID, ResourceVersion: claim.ResourceVersion},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{
				Path: filepath.ToSlash(filepath.Join(node.Annotations[api.AnnotationClaims], name))}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}}}}}},
		},
	}
}

// grow gives a bound claim more of its volume when it asks for more. Whether it
// may ask was decided when it did (admission plugin
// PersistentVolumeClaimResize). A directory grows by being said to be larger.
func (c *volumeBinder) grow(ctx context.Context, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	want, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
	got := claim.Status.Capacity[corev1.ResourceStorage]
	ours := pv.Annotations[volume.AnnDynamicallyProvisioned] == api.LocalProvisioner
	if want.Cmp(got) <= 0 {
		return nil
	}
	if !ours {
		c.recorder.Event(claim, corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
		return nil
	}
	if want.Cmp(has) > 0 {
		changed := pv.DeepCopy()
		changed.Spec.Capacity[corev1.ResourceStorage] = want
		if _, err := c.writeVolume(ctx, changed, ""); err != nil {
			return err
		}
	}
	changed := claim.DeepCopy()
	changed.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: want}
	if _, err := c.writeClaim(ctx, changed, "status"); err != nil {
		return err
	}
	c.recorder.For(api.LocalProvisioner).Event(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}
