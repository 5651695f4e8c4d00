package controller

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// rollout is one reconcile of one Deployment.
type rollout struct {
	*deployments
	ctx     context.Context
	seen    *appsv1.Deployment // as the informer has it, shared
	d       *appsv1.Deployment // a copy; its status collects new conditions
	history history
	now     time.Time
	counted bool // write the numbers only: nothing is being rolled out
}

// step does the next thing that the Deployment needs.
func (r *rollout) step() error {
	if r.d.DeletionTimestamp != nil {
		r.counted = true
		return nil
	}
	notePause(r.d, &r.d.Status, r.now)
	if r.d.Spec.Paused || isScaling(r.d, r.history) {
		return r.scale()
	}
	if !isRolling(r.d) {
		return r.recreate()
	}
	if err := r.ensureCurrent(); err != nil {
		return err
	}
	plan := planRollout(r.d, r.history)
	if err := r.resize(plan); err != nil || len(plan) > 0 {
		return err
	}
	return r.tidy()
}

// scale follows spec.replicas, and only that.
func (r *rollout) scale() error {
	r.counted = true
	if r.history.current != nil {
		if err := r.refreshCurrent(); err != nil {
			return err
		}
	}
	if err := r.resize(planScale(r.d, r.history)); err != nil {
		return err
	}
	if r.d.Spec.Paused {
		return r.prune()
	}
	return nil
}

// recreate ends all old pods before it starts a new one.
func (r *rollout) recreate() error {
	if r.history.current != nil {
		if err := r.refreshCurrent(); err != nil {
			return err
		}
	}
	var down []resize
	for _, rs := range active(r.history.old) {
		down = append(down, resize{rs, 0})
	}
	if err := r.resize(down); err != nil || len(down) > 0 {
		return err
	}
	if r.oldPodsRun() {
		return nil
	}
	if err := r.ensureCurrent(); err != nil {
		return err
	}
	if rs := r.history.current; replicasOf(rs) != wanted(r.d) {
		return r.resize([]resize{{rs, wanted(r.d)}})
	}
	return r.tidy()
}

// oldPodsRun counts pods that are terminating too: they still hold what the
// new ones need.
func (r *rollout) oldPodsRun() bool {
	if statusReplicas(r.history.old) > 0 {
		return true
	}
	for _, rs := range r.history.old {
		for _, p := range reconcile.As[*corev1.Pod](r.pods.ByIndex(byController, string(rs.UID))) {
			if !podFinished(p) {
				return true
			}
		}
	}
	return false
}

// ensureCurrent makes the ReplicaSet of the template exist and know its
// revision, and tells the Deployment its revision.
func (r *rollout) ensureCurrent() error {
	if r.history.current != nil {
		return r.refreshCurrent()
	}
	rs, err := newReplicaSet(r.d, r.history)
	if err != nil {
		return err
	}
	r.made.add(r.d.UID, rs.Name)
	obj, err := r.client.Create(r.ctx, api.ReplicaSets.KeyOf(rs), rs, api.CreateOptions{})
	created := err == nil
	switch {
	case apierrors.IsAlreadyExists(err):
		if obj, err = r.resolveCollision(rs); err != nil {
			return err
		}
	case namespaceGoing(err):
		return err
	case err != nil:
		message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
		if hasDeadline(r.d) {
			setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError, message, r.now))
		}
		r.recorder.Event(r.seen, corev1.EventTypeWarning, reasonCreateError, "%s", message)
		return fmt.Errorf("create replica set %s: %w", rs.Name, err)
	}
	stored, ok := obj.(*appsv1.ReplicaSet)
	if !ok {
		return fmt.Errorf("create replica set %s: got a %T", rs.Name, obj)
	}
	r.history.current = stored
	if created {
		if n := replicasOf(stored); n > 0 {
			r.recorder.Event(r.seen, corev1.EventTypeNormal, reasonScaled, "Scaled up replica set %s from 0 to %d", stored.Name, n)
		}
		if hasDeadline(r.d) {
			setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated,
				fmt.Sprintf("Created new replica set %q", stored.Name), r.now))
		}
	}
	r.tellRevision()
	return nil
}

// resolveCollision looks at the object that has the name already: either the
// informer was late and it is ours, or another template has the same hash and
// the next try gets another one.
func (r *rollout) resolveCollision(rs *appsv1.ReplicaSet) (api.Object, error) {
	have, err := api.Get[*appsv1.ReplicaSet](r.ctx, r.client, api.ReplicaSets.KeyOf(rs))
	if err != nil {
		return nil, fmt.Errorf("get replica set %s, which exists: %w", rs.Name, err)
	}
	if metav1.IsControlledBy(have, r.seen) && sameTemplate(&have.Spec.Template, &r.seen.Spec.Template) {
		return have, nil
	}
	count := int32(1)
	if n := r.seen.Status.CollisionCount; n != nil {
		count = *n + 1
	}
	r.d.Status.CollisionCount = &count
	return nil, fmt.Errorf("the name belongs to another replica set; trying the next one: %w",
		apierrors.NewAlreadyExists(api.ReplicaSets.GVR().GroupResource(), rs.Name))
}

// refreshCurrent brings the current ReplicaSet's metadata up to date.
func (r *rollout) refreshCurrent() error {
	rs := r.history.current
	annotations := setAnnotations(r.d, rs.Annotations, nextRevision(r.history.old))
	if rs.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds || !equality.Semantic.DeepEqual(annotations, rs.Annotations) {
		changed := rs.DeepCopy()
		changed.Annotations = annotations
		changed.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
		if err := r.update(rs, changed); err != nil {
			return err
		}
	}
	if hasDeadline(r.d) && !speaksOf(conditionOf(&r.d.Status, appsv1.DeploymentProgressing), rs) {
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound,
			fmt.Sprintf("Found new replica set %q", rs.Name), r.now))
	}
	r.tellRevision()
	return nil
}

// tellRevision copies the current revision to the Deployment. It is written with
// the status, as Kubernetes does: so it is no new generation.
func (r *rollout) tellRevision() {
	if r.d.Annotations == nil {
		r.d.Annotations = map[string]string{}
	}
	r.d.Annotations[revisionAnnotation] = r.history.current.Annotations[revisionAnnotation]
}

// resize applies a plan and puts the results into the history.
func (r *rollout) resize(plan []resize) error {
	for _, p := range plan {
		from := replicasOf(p.rs)
		changed := p.rs.DeepCopy()
		changed.Spec.Replicas = &p.to
		if changed.Annotations == nil {
			changed.Annotations = map[string]string{}
		}
		if noted := setSizes(changed.Annotations, r.d); from == p.to && !noted {
			continue
		}
		if err := r.update(p.rs, changed); err != nil {
			return err
		}
		if from < p.to {
			r.recorder.Event(r.seen, corev1.EventTypeNormal, reasonScaled, "Scaled up replica set %s from %d to %d", p.rs.Name, from, p.to)
		} else if from > p.to {
			r.recorder.Event(r.seen, corev1.EventTypeNormal, reasonScaled, "Scaled down replica set %s from %d to %d", p.rs.Name, from, p.to)
		}
	}
	return nil
}

// update writes a ReplicaSet; the version it was read at is a precondition.
func (r *rollout) update(rs, changed *appsv1.ReplicaSet) error {
	obj, err := r.client.Update(r.ctx, api.ReplicaSets.KeyOf(rs), changed, api.UpdateOptions{})
	if err != nil {
		r.resized.doubt(api.ReplicaSets.KeyOf(rs))
		return fmt.Errorf("update %s: %w", api.ReplicaSets.KeyOf(rs), err)
	}
	stored, ok := obj.(*appsv1.ReplicaSet)
	if !ok {
		return fmt.Errorf("update %s: got a %T", api.ReplicaSets.KeyOf(rs), obj)
	}
	r.resized.add(api.ReplicaSets.KeyOf(rs), stored)
	if r.history.current == rs {
		r.history.current = stored
	}
	for i := range r.history.old {
		if r.history.old[i] == rs {
			r.history.old[i] = stored
		}
	}
	return nil
}

// tidy removes surplus history once the rollout is complete.
func (r *rollout) tidy() error {
	if status := countStatus(r.d, r.history, r.now); !isComplete(r.d, &status) {
		return nil
	}
	return r.prune()
}

func (r *rollout) prune() error {
	for _, rs := range surplus(r.d, r.history.old) {
		_, err := r.client.Delete(r.ctx, api.ReplicaSets.KeyOf(rs), api.DeleteOptions{UID: &rs.UID})
		if ignoreGone(err) != nil {
			return fmt.Errorf("delete %s, beyond the history limit: %w", api.ReplicaSets.KeyOf(rs), err)
		}
	}
	return nil
}

func (r *rollout) status() appsv1.DeploymentStatus {
	if r.counted {
		return countStatus(r.d, r.history, r.now)
	}
	return rolloutStatus(r.d, r.history, r.now)
}

// write stores a status and the revision, if they say something new.
func (r *rollout) write(status appsv1.DeploymentStatus) error {
	if equality.Semantic.DeepEqual(r.seen.Status, status) &&
		r.seen.Annotations[revisionAnnotation] == r.d.Annotations[revisionAnnotation] {
		return nil
	}
	changed := r.d.DeepCopy()
	changed.Status = status
	key := api.Deployments.KeyOf(changed)
	stored, err := r.client.Update(r.ctx, key, changed, api.UpdateOptions{Subresource: "status"})
	if err != nil {
		return ignoreGone(fmt.Errorf("write the status of %s: %w", key, err))
	}
	r.written.add(key, stored)
	return nil
}
