package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
)

// bindTimeout is how long a pod waits for its volumes before it is scheduled
// anew, as kube-scheduler's default says.
const bindTimeout = 10 * time.Minute

// volumeNeed is a claim that must be bound before its pod can be: to a volume
// that was chosen for it, or to one that is to be made for the node.
type volumeNeed struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume // nil: to be provisioned
}

// provision decides on volumes for the claims that waited for this decision,
// and gives the volumes away. It is false when they do not suffice any more.
func (d *decision) provision(n *nodeState) ([]volumeNeed, bool) {
	chosen, ok := d.snapshot.claims.plan(&d.volumes, n.node)
	if !ok {
		return nil, false
	}
	var needs []volumeNeed
	for i, claim := range d.volumes.waiting {
		needs = append(needs, volumeNeed{claim, chosen[i]})
		if chosen[i] != nil {
			d.snapshot.claims.assumed[chosen[i].Name] = claimName{claim.Namespace, claim.Name}
		}
	}
	return needs, true
}

// volumesReady writes what was decided about volumes and waits until the
// claims are bound.
func (s *Scheduler) volumesReady(ctx context.Context, pod *corev1.Pod, node string, needs []volumeNeed) error {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	for _, need := range needs {
		if err := s.giveVolume(ctx, need, node); err != nil {
			return s.unready(pod, need, err)
		}
	}
	for _, need := range needs {
		if err := s.awaitClaim(ctx, need, node); err != nil {
			return s.unready(pod, need, err)
		}
	}
	return nil
}

// unready gives volumes back whose pod is scheduled anew.
func (s *Scheduler) unready(pod *corev1.Pod, need volumeNeed, err error) error {
	s.inbox.put(func(context.Context) {
		if need.volume != nil {
			delete(s.snapshot.claims.assumed, need.volume.Name)
		}
	})
	err = fmt.Errorf("binding volumes: claim %s: %w", need.claim.Name, err)
	s.cfg.Recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", "%v", err)
	return err
}

func (s *Scheduler) giveVolume(ctx context.Context, need volumeNeed, node string) error {
	if need.volume == nil {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": need.claim.UID, "annotations": map[string]string{volume.AnnSelectedNode: node}}})
		if err != nil {
			return err
		}
		_, err = s.cfg.Client.Patch(ctx, claimKey(need.claim), api.Patch{Type: types.MergePatchType, Data: patch}, api.PatchOptions{})
		return err
	}
	pv, dirty, err := volume.GetBindVolumeToClaim(need.volume, need.claim)
	if err != nil || !dirty {
		return err
	}
	_, err = s.cfg.Client.Update(ctx, api.Key{Resource: "persistentvolumes", Name: pv.Name}, pv, api.UpdateOptions{})
	return err
}

func claimKey(claim metav1.Object) api.Key {
	return api.Key{Resource: "persistentvolumeclaims", Namespace: claim.GetNamespace(), Name: claim.GetName()}
}

// awaitClaim blocks until the claim is bound. A claim that lost its selected
// node could not be provisioned there.
func (s *Scheduler) awaitClaim(ctx context.Context, need volumeNeed, node string) error {
	claim := need.claim
	for wait := firstInquiry; ; wait = min(2*wait, lastInquiry) {
		now, err := api.Get[*corev1.PersistentVolumeClaim](ctx, s.cfg.Client, claimKey(claim))
		switch {
		case err != nil:
			return err
		case now.UID != claim.UID || now.DeletionTimestamp != nil:
			return fmt.Errorf("persistentvolumeclaim %q is being deleted", claim.Name)
		case now.Spec.VolumeName != "" && now.Status.Phase == corev1.ClaimBound:
			return nil
		case need.volume == nil && now.Annotations[volume.AnnSelectedNode] != node:
			return fmt.Errorf("selectedNode annotation value %q not set to scheduled node %q", now.Annotations[volume.AnnSelectedNode], node)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}
