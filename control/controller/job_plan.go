package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How long a job waits before it replaces a failed pod: doubled with each
// failure since the last success.
const (
	firstPodBackoff = 10 * time.Second
	lastPodBackoff  = 10 * time.Minute
)

// jobPlan is what brings a job's pods to the number that should run. Of create
// and remove one is empty: what is to be removed comes first.
type jobPlan struct {
	create []*corev1.Pod
	remove []*corev1.Pod
	again  time.Duration // when a pod's back-off ends, 0: none waits
}

// plan compares the active pods with those that should run.
func (r *jobRound) plan() jobPlan {
	if isSuspended(r.job) {
		return jobPlan{remove: r.active}
	}
	want := parallelism(r.job)
	if r.job.Spec.Completions != nil {
		want = max(0, min(want, int(*r.job.Spec.Completions)-r.succeeded))
	} else if r.succeeded > 0 {
		want = len(r.active) // the others finish, no new ones begin
	}
	remove := r.surplus(len(r.active) - want)
	if len(remove) > 0 {
		return jobPlan{remove: remove[:min(len(remove), burstReplicas)]}
	}
	missing := want - len(r.active)
	if replacesOnlyFailed(r.job) {
		missing -= r.terminating
	}
	missing = min(missing, burstReplicas)
	if missing <= 0 {
		return jobPlan{}
	}
	if r.job.Spec.BackoffLimitPerIndex != nil {
		return r.planIndependent(missing)
	}
	if wait := r.backoff(); wait > 0 {
		return jobPlan{again: wait}
	}
	var plan jobPlan
	if !isIndexed(r.job) {
		for range missing {
			plan.create = append(plan.create, podOfJob(r.job, noIndex, nil))
		}
		return plan
	}
	for _, index := range r.pending(missing) {
		plan.create = append(plan.create, podOfJob(r.job, index, nil))
	}
	return plan
}

// planIndependent is plan for a job whose indexes have a limit of their own:
// each waits for its own failures only.
func (r *jobRound) planIndependent(missing int) jobPlan {
	var plan jobPlan
	for _, index := range r.pending(int(*r.job.Spec.Completions)) {
		if len(plan.create) == missing {
			break
		}
		before := r.last[index]
		if before != nil {
			counted, ignored := failuresOf(before)
			if wait := r.waitAfter(counted+ignored+1, endedAt(before, r.now)); wait > 0 {
				if plan.again == 0 || wait < plan.again {
					plan.again = wait
				}
				continue
			}
		}
		plan.create = append(plan.create, podOfJob(r.job, index, before))
	}
	return plan
}

// pending are the first n indexes that have neither succeeded nor failed nor a
// pod that runs.
func (r *jobRound) pending(n int) []int {
	taken := map[int]bool{}
	for _, p := range r.pods {
		if podActive(p) || isTerminating(p) && replacesOnlyFailed(r.job) {
			taken[indexOf(r.job, p)] = true
		}
	}
	var out []int
	for index := 0; index < int(*r.job.Spec.Completions) && len(out) < n; index++ {
		if !taken[index] && !r.succeededIndexes.has(index) && !r.failedIndexes.has(index) {
			out = append(out, index)
		}
	}
	return out
}

// surplus are at least n active pods to give up: of an indexed job all that
// repeat an index or have none that is needed, and then those whose loss hurts
// least.
func (r *jobRound) surplus(n int) []*corev1.Pod {
	ranked := slices.Clone(r.active)
	slices.SortFunc(ranked, func(a, b *corev1.Pod) int { return comparePods(a, b, nil, r.now) })
	var remove, keep []*corev1.Pod
	if isIndexed(r.job) {
		seen := map[int]bool{}
		for _, p := range slices.Backward(ranked) { // the best of each index stays
			index := indexOf(r.job, p)
			if index == noIndex || seen[index] || r.succeededIndexes.has(index) || r.failedIndexes.has(index) {
				remove = append(remove, p)
				continue
			}
			seen[index] = true
			keep = append(keep, p)
		}
		slices.Reverse(keep)
	} else {
		keep = ranked
	}
	if more := min(n-len(remove), len(keep)); more > 0 {
		remove = append(remove, keep[:more]...)
	}
	return remove
}

// backoff is how long the job waits for its next pod, by its failures since
// the last success. It follows from the pods alone, so it survives the
// controller.
func (r *jobRound) backoff() time.Duration {
	var success, last time.Time
	for _, p := range r.pods {
		if at := endedAt(p, r.now); p.Status.Phase == corev1.PodSucceeded && at.After(success) {
			success = at
		}
	}
	failures := 0
	for _, p := range r.pods {
		if !failedFor(r.job, p) {
			continue
		}
		if at := endedAt(p, r.now); at.After(success) {
			failures++
			if at.After(last) {
				last = at
			}
		}
	}
	return r.waitAfter(failures, last)
}

// waitAfter is what is left of the wait after so many failures in a row.
func (r *jobRound) waitAfter(failures int, last time.Time) time.Duration {
	if failures == 0 {
		return 0
	}
	wait := lastPodBackoff
	if failures < 8 { // beyond, it is longer than the longest
		wait = min(wait, firstPodBackoff<<(failures-1))
	}
	return last.Add(wait).Sub(r.now)
}
