package controller

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// setRound is one look at a StatefulSet: its pods by ordinal, and what is to
// be done. The rules are those of
// https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/.
type setRound struct {
	set             *appsv1.StatefulSet
	current, update string // revisions by name
	now             time.Time
	rest            func(ordinal int) time.Duration // how long a name is to stay free yet

	start     int
	replicas  []*corev1.Pod // by ordinal from start; nil: not there
	condemned []*corev1.Pod // beyond the wanted ones, the highest ordinal first
	pods      []*corev1.Pod // all of them
}

func newSetRound(set *appsv1.StatefulSet, pods []*corev1.Pod, current, update string, now time.Time) *setRound {
	r := &setRound{set: set, current: current, update: update, now: now, pods: pods,
		start: firstOrdinal(set), replicas: make([]*corev1.Pod, setReplicas(set))}
	for _, p := range pods {
		ordinal, ok := ordinalOf(set, p)
		if !ok {
			continue
		}
		if i := ordinal - r.start; i >= 0 && i < len(r.replicas) {
			r.replicas[i] = p
		} else {
			r.condemned = append(r.condemned, p)
		}
	}
	slices.SortFunc(r.condemned, func(a, b *corev1.Pod) int {
		x, _ := ordinalOf(set, a)
		y, _ := ordinalOf(set, b)
		return y - x
	})
	return r
}

// setPlan is what a round does, in this order.
type setPlan struct {
	create []int         // ordinals
	repair []*corev1.Pod // that lack their identity
	remove []*corev1.Pod
	again  time.Duration // when there is more to do by itself, 0: never
}

// ordered says that pods come and go one after the other.
func (r *setRound) ordered() bool {
	return r.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

func runningAndReady(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && isReady(p) }

// available says that a pod has been ready for long enough; wait is how long
// it lacks yet, 0 when time alone does not help.
func (r *setRound) available(p *corev1.Pod) (ok bool, wait time.Duration) {
	if p.Status.Phase != corev1.PodRunning {
		return false, 0
	}
	wait, ready := podAvailableIn(p, r.set.Spec.MinReadySeconds, r.now)
	return ready && wait == 0, wait
}

// healthy says that nothing waits for a pod.
func (r *setRound) healthy(p *corev1.Pod) bool {
	if p == nil || p.DeletionTimestamp != nil {
		return false
	}
	ok, _ := r.available(p)
	return ok
}

// plan decides. In order, it does one thing and waits until a pod that comes
// before is there; in parallel, it does all at once.
func (r *setRound) plan() setPlan {
	var plan setPlan
	if r.set.DeletionTimestamp != nil {
		return plan
	}
	r.wait(&plan)
	if !r.planReplicas(&plan) || !r.planCondemned(&plan) {
		return plan
	}
	r.planUpdate(&plan)
	return plan
}

// wait notes when the next pod becomes available.
func (r *setRound) wait(plan *setPlan) {
	for _, p := range r.pods {
		if _, wait := r.available(p); wait > 0 && (plan.again == 0 || wait < plan.again) {
			plan.again = wait
		}
	}
}

// planReplicas makes the wanted pods exist and be healthy. It reports whether
// the round may go on.
func (r *setRound) planReplicas(plan *setPlan) bool {
	goOn := true
	for i, p := range r.replicas {
		switch {
		case p == nil:
			if wait := r.rest(r.start + i); wait > 0 {
				plan.again = earlier(plan.again, wait)
			} else {
				plan.create = append(plan.create, r.start+i)
			}
		case podFinished(p):
			// It comes back under its name, whatever its exit code: an eviction
			// looks like an end.
			if p.DeletionTimestamp == nil {
				plan.remove = append(plan.remove, p)
			}
			goOn = false
		case p.DeletionTimestamp == nil && !identified(p, r.start+i):
			plan.repair = append(plan.repair, p)
			continue
		}
		if r.ordered() && !r.healthy(p) {
			return false
		}
	}
	return goOn
}

// planCondemned ends pods beyond the wanted number, in order from the highest
// ordinal and only while the others are healthy.
func (r *setRound) planCondemned(plan *setPlan) bool {
	unhealthy := r.firstUnhealthy()
	for _, p := range r.condemned {
		switch {
		case p.DeletionTimestamp != nil:
			if r.ordered() {
				return false
			}
		case r.ordered() && !r.healthy(p) && p != unhealthy:
			return false
		default:
			plan.remove = append(plan.remove, p)
			if r.ordered() {
				return false
			}
		}
	}
	return true
}

// firstUnhealthy is the unhealthy pod with the lowest ordinal, nil if all are
// healthy.
func (r *setRound) firstUnhealthy() *corev1.Pod {
	for _, p := range r.replicas {
		if p != nil && !r.healthy(p) {
			return p
		}
	}
	for _, p := range slices.Backward(r.condemned) {
		if !r.healthy(p) {
			return p
		}
	}
	return nil
}

// planUpdate replaces pods of other revisions from the highest ordinal down to
// the partition. Not more than maxUnavailable of all pods are unavailable at a
// time; one that is so anyway costs nothing to replace.
func (r *setRound) planUpdate(plan *setPlan) {
	if r.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	budget := r.maxUnavailable()
	for _, p := range r.replicas {
		if !r.healthy(p) {
			budget--
		}
	}
	for i, p := range slices.Backward(r.replicas) {
		if i < r.partition() {
			break
		}
		if p == nil || p.DeletionTimestamp != nil || revisionLabel(p) == r.update || podFinished(p) {
			continue
		}
		if r.healthy(p) {
			if budget <= 0 {
				continue
			}
			budget--
		}
		plan.remove = append(plan.remove, p)
	}
}

func (r *setRound) partition() int {
	if u := r.set.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		return int(*u.Partition)
	}
	return 0
}

func (r *setRound) maxUnavailable() int {
	u := r.set.Spec.UpdateStrategy.RollingUpdate
	if u == nil || u.MaxUnavailable == nil {
		return 1
	}
	return max(1, int(scaled(*u.MaxUnavailable, int32(len(r.replicas)), true)))
}

// revisionFor is the revision of a new pod: below the partition the one before
// the update.
func (r *setRound) revisionFor(ordinal int) string {
	if r.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && ordinal < r.start+r.partition() {
		return r.current
	}
	return r.update
}

// status counts the pods. One that is being deleted is there still, but of no
// revision any more.
func (r *setRound) status(collisions *int32) appsv1.StatefulSetStatus {
	s := *r.set.Status.DeepCopy()
	s.ObservedGeneration = r.set.Generation
	s.CurrentRevision, s.UpdateRevision, s.CollisionCount = r.current, r.update, collisions
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = 0, 0, 0, 0, 0
	for _, p := range r.pods {
		s.Replicas++
		if runningAndReady(p) {
			s.ReadyReplicas++
			if ok, _ := r.available(p); ok {
				s.AvailableReplicas++
			}
		}
		if p.DeletionTimestamp != nil {
			continue
		}
		if revisionLabel(p) == r.current {
			s.CurrentReplicas++
		}
		if revisionLabel(p) == r.update {
			s.UpdatedReplicas++
		}
	}
	// A pod that is missing at the moment does not complete an update: below the
	// partition it comes back as it was.
	wanted := int32(len(r.replicas))
	if r.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.Replicas == wanted && s.UpdatedReplicas == wanted && s.ReadyReplicas == wanted {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	return s
}
