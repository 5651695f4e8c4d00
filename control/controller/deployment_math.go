package controller

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The annotations by which a Deployment and its ReplicaSets remember. The
// first is read by kubectl rollout history and undo.
const (
	revisionAnnotation        = "deployment.kubernetes.io/revision"
	revisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	desiredAnnotation         = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation             = "deployment.kubernetes.io/max-replicas"
)

// resize is one step of a plan: a ReplicaSet gets that many replicas.
type resize struct {
	rs *appsv1.ReplicaSet
	to int32
}

// history is a Deployment's ReplicaSets: that of the current template, nil if
// there is none yet, and all others in order of creation.
type history struct {
	current *appsv1.ReplicaSet
	old     []*appsv1.ReplicaSet
}

func (h history) all() []*appsv1.ReplicaSet {
	if h.current == nil {
		return h.old
	}
	return append(slices.Clone(h.old), h.current)
}

func wanted(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

func isRolling(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType
}

// margins are how many pods a rollout may have above and may lack below the
// wanted number. Percentages of it are rounded up for the surge and down for
// the lack; if both come out as 0 nothing could ever move, so 1 may lack.
func margins(d *appsv1.Deployment) (surge, lack int32) {
	if !isRolling(d) {
		return 0, 0
	}
	surgeValue, lackValue := intstr.FromString("25%"), intstr.FromString("25%")
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			surgeValue = *r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			lackValue = *r.MaxUnavailable
		}
	}
	surge = scaled(surgeValue, wanted(d), true)
	lack = scaled(lackValue, wanted(d), false)
	if surge == 0 && lack == 0 {
		lack = 1
	}
	return surge, min(lack, wanted(d))
}

// scaled resolves a number or percentage; one that does not parse is 0 (the
// API refuses those).
func scaled(v intstr.IntOrString, total int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, int(total), up)
	if err != nil || n < 0 {
		return 0
	}
	return int32(min(n, math.MaxInt32))
}

func maxTotal(d *appsv1.Deployment) int32 {
	surge, _ := margins(d)
	return wanted(d) + surge
}

// specReplicas, statusReplicas and availableReplicas add up ReplicaSets.
func specReplicas(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += replicasOf(rs)
	}
	return n
}

func statusReplicas(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.Replicas
	}
	return n
}

func availableReplicas(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

// occupied are the pods that there are or will be: a set that was told to
// shrink has more than it wants until it has done so.
func occupied(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += max(replicasOf(rs), rs.Status.Replicas)
	}
	return n
}

// staying are the available pods that a set keeps: of one that was told to
// shrink the others are on their way out.
func staying(sets ...*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += min(replicasOf(rs), rs.Status.AvailableReplicas)
	}
	return n
}

// observed says that all sets have seen their latest size, so that their
// numbers can be relied on.
func observed(sets []*appsv1.ReplicaSet) bool {
	return !slices.ContainsFunc(sets, func(rs *appsv1.ReplicaSet) bool { return rs.Status.ObservedGeneration < rs.Generation })
}

// active are the ReplicaSets that want pods.
func active(sets []*appsv1.ReplicaSet) (out []*appsv1.ReplicaSet) {
	for _, rs := range sets {
		if replicasOf(rs) > 0 {
			out = append(out, rs)
		}
	}
	return out
}

// currentSize is how many replicas the current ReplicaSet may have now. have
// is its present number. While one of the sets has not said what it made of
// its latest size there may be more pods than anybody knows: nothing is added.
func currentSize(d *appsv1.Deployment, have int32, h history) int32 {
	if !isRolling(d) {
		return wanted(d)
	}
	room := maxTotal(d) - occupied(h.all())
	if room <= 0 || !observed(h.all()) {
		return have
	}
	return have + min(room, wanted(d)-have)
}

// planRollout is the next step of a rolling update: the current ReplicaSet
// grows as far as the surge allows, or else the old ones shrink as far as
// enough pods stay available.
func planRollout(d *appsv1.Deployment, h history) []resize {
	if have := replicasOf(h.current); have > wanted(d) {
		return []resize{{h.current, wanted(d)}}
	} else if to := currentSize(d, have, h); to != have {
		return []resize{{h.current, to}}
	}
	return planShrink(d, h)
}

// planShrink takes pods from the old ReplicaSets: first those that are not
// available anyway (a broken template must not block its own replacement),
// then available ones while more than the minimum are available.
func planShrink(d *appsv1.Deployment, h history) []resize {
	_, lack := margins(d)
	minAvailable := wanted(d) - lack
	missing := replicasOf(h.current) - staying(h.current)
	room := specReplicas(h.all()) - minAvailable - missing
	if specReplicas(h.old) == 0 || room <= 0 || !observed(h.all()) {
		return nil
	}
	size := map[*appsv1.ReplicaSet]int32{}
	for _, rs := range h.old {
		size[rs] = replicasOf(rs)
		sick := min(room, max(0, size[rs]-rs.Status.AvailableReplicas))
		size[rs] -= sick
		room -= sick
	}
	spare := staying(h.all()...) - minAvailable
	for _, rs := range h.old {
		healthy := max(0, min(spare, size[rs]))
		size[rs] -= healthy
		spare -= healthy
	}
	var plan []resize
	for _, rs := range h.old {
		if size[rs] != replicasOf(rs) {
			plan = append(plan, resize{rs, size[rs]})
		}
	}
	return plan
}

// isScaling says that spec.replicas has changed since the active ReplicaSets
// were sized.
func isScaling(d *appsv1.Deployment, h history) bool {
	for _, rs := range active(h.all()) {
		if n, ok := numberOf(rs, desiredAnnotation); ok && n != wanted(d) {
			return true
		}
	}
	return false
}

// planScale follows a change of spec.replicas, without rolling anything: a
// single active ReplicaSet gets all; in the middle of a rollout the change is
// shared in proportion, so that the risk of the new template stays the same.
func planScale(d *appsv1.Deployment, h history) []resize {
	if only, ok := soleOrLatest(h); ok {
		if only == nil || replicasOf(only) == wanted(d) {
			return nil
		}
		return []resize{{only, wanted(d)}}
	}
	if saturated(d, h.current) {
		var plan []resize
		for _, rs := range active(h.old) {
			plan = append(plan, resize{rs, 0})
		}
		return plan
	}
	if !isRolling(d) {
		return nil
	}
	return planProportion(d, active(h.all()))
}

// soleOrLatest is the one ReplicaSet to scale: the only active one or, when
// none is, the current or the newest. ok is false when several are active.
func soleOrLatest(h history) (rs *appsv1.ReplicaSet, ok bool) {
	switch a := active(h.all()); {
	case len(a) > 1:
		return nil, false
	case len(a) == 1:
		return a[0], true
	case h.current != nil:
		return h.current, true
	case len(h.old) > 0:
		return h.old[len(h.old)-1], true
	}
	return nil, true
}

// saturated says that the current ReplicaSet does all the work.
func saturated(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	n, ok := numberOf(rs, desiredAnnotation)
	return ok && n == wanted(d) && replicasOf(rs) == wanted(d) && rs.Status.AvailableReplicas == wanted(d)
}

// planProportion shares a change of size among active ReplicaSets. What
// rounding leaves goes to the biggest. Sets that keep their size are part of
// the plan too: their annotations must follow.
func planProportion(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) []resize {
	var allowed int32
	if wanted(d) > 0 {
		allowed = maxTotal(d)
	}
	change := allowed - specReplicas(sets)
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if c := cmp.Compare(replicasOf(b), replicasOf(a)); c != 0 {
			return c
		}
		if change > 0 { // newer ones grow first, older ones shrink first
			return compareCreation(b, a)
		}
		return compareCreation(a, b)
	})
	plan := make([]resize, len(sets))
	var given int32
	for i, rs := range sets {
		share := int32(0)
		if change != 0 {
			share = proportion(d, rs, change-given)
		}
		plan[i] = resize{rs, replicasOf(rs) + share}
		given += share
	}
	if len(plan) > 0 {
		plan[0].to = max(0, plan[0].to+change-given)
	}
	return plan
}

// proportion is a ReplicaSet's share of a change, at most what is left of it.
func proportion(d *appsv1.Deployment, rs *appsv1.ReplicaSet, left int32) int32 {
	have := replicasOf(rs)
	if have == 0 || left == 0 {
		return 0
	}
	share := -have
	if wanted(d) > 0 {
		before, ok := numberOf(rs, maxAnnotation)
		if !ok || before == 0 {
			before = d.Status.Replicas
		}
		if before == 0 {
			return 0
		}
		share = int32(math.Round(float64(have)*float64(maxTotal(d))/float64(before))) - have
	}
	if left > 0 {
		return min(share, left)
	}
	return max(share, left)
}

func numberOf(rs *appsv1.ReplicaSet, annotation string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[annotation], 10, 32)
	return int32(n), err == nil
}

func compareCreation(a, b *appsv1.ReplicaSet) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
