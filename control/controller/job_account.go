package controller

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxUncounted bounds how many pods wait in a status to be counted.
const maxUncounted = 500

// A pod that has ended is counted in three steps, each of which can be
// repeated after a crash: its uid goes into the status as uncounted; its
// finalizer is removed; its uid leaves the status while the counter grows. A
// pod without the finalizer whose uid is not in the status was counted. Of an
// indexed job the set of succeeded indexes is enough.

// clean counts the pods that are in the status and hold no finalizer any more.
func (r *jobRound) clean() {
	uncounted := r.job.Status.UncountedTerminatedPods
	rest := func(uids []types.UID, counter *int32) []types.UID {
		before := len(uids)
		uids = slices.DeleteFunc(slices.Clone(uids), func(uid types.UID) bool { return !r.open[uid] })
		*counter += int32(before - len(uids))
		if len(uids) == 0 {
			return nil
		}
		return uids
	}
	var ofIndexed int32 // their number follows from the indexes
	succeeded := &r.job.Status.Succeeded
	if isIndexed(r.job) {
		succeeded = &ofIndexed
	}
	uncounted.Succeeded = rest(uncounted.Succeeded, succeeded)
	uncounted.Failed = rest(uncounted.Failed, &r.job.Status.Failed)
}

// account writes the pods that have ended into the status and returns those to
// free of their finalizer. more says that the status has no room for all.
func (r *jobRound) account() (free []*corev1.Pod, more bool) {
	status := &r.job.Status
	uncounted := status.UncountedTerminatedPods
	succeeded, failed := uidSet(uncounted.Succeeded), uidSet(uncounted.Failed)
	var newIndexes []int
	pods := slices.Clone(r.pods)
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return endedAt(a, r.now).Compare(endedAt(b, r.now)) })
	for _, p := range pods {
		if !r.open[p.UID] || !r.mayFree(p) {
			continue
		}
		if len(newIndexes)+len(uncounted.Succeeded)+len(uncounted.Failed) >= maxUncounted {
			more = true
			break
		}
		free = append(free, p)
		index := indexOf(r.job, p)
		lost := failedFor(r.job, p) || r.end != nil && r.end.Type == batchv1.JobFailureTarget
		switch {
		case p.Status.Phase == corev1.PodSucceeded && !failed[p.UID]:
			if isIndexed(r.job) {
				if index != noIndex {
					newIndexes = append(newIndexes, index)
				}
			} else if !succeeded[p.UID] {
				uncounted.Succeeded = append(uncounted.Succeeded, p.UID)
			}
		case lost && !failed[p.UID] && (!isIndexed(r.job) || index != noIndex) && matchFailure(r.job, p).counts():
			uncounted.Failed = append(uncounted.Failed, p.UID)
		}
	}
	if isIndexed(r.job) {
		done := parseIndexes(status.CompletedIndexes, int(*r.job.Spec.Completions)).withAll(newIndexes)
		status.CompletedIndexes, status.Succeeded = done.String(), int32(done.total())
		if r.job.Spec.BackoffLimitPerIndex != nil {
			text := r.failedIndexes.String()
			status.FailedIndexes = &text
		}
	}
	return free, more
}

// mayFree says whether a pod that is not counted yet may lose its finalizer.
func (r *jobRound) mayFree(p *corev1.Pod) bool {
	if r.job.DeletionTimestamp != nil || r.end != nil || p.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return failedFor(r.job, p) && r.last[indexOf(r.job, p)] != p
}

// announce puts what was decided into the conditions, before the pods lose
// their finalizers and the reason can no longer be read from them.
func (r *jobRound) announce() {
	if r.end != nil && jobCondition(r.job, r.end.Type) == nil {
		r.job.Status.Conditions = append(r.job.Status.Conditions, *r.end)
	}
}

// finish makes the job Complete or Failed if all is done: every pod is counted
// and none is on its way out.
func (r *jobRound) finish() bool {
	uncounted := r.job.Status.UncountedTerminatedPods
	if r.end == nil || len(uncounted.Succeeded)+len(uncounted.Failed) > 0 || r.running > 0 || r.terminating > 0 {
		return false
	}
	final := r.condition(batchv1.JobFailed, corev1.ConditionTrue, r.end.Reason, r.end.Message)
	if r.end.Type == batchv1.JobSuccessCriteriaMet {
		final.Type = batchv1.JobComplete
		at := metav1.NewTime(r.now)
		r.job.Status.CompletionTime = &at
	}
	if r.job.Status.StartTime == nil { // it was suspended all the time
		at := metav1.NewTime(r.now)
		r.job.Status.StartTime = &at
	}
	r.job.Status.Conditions = append(r.job.Status.Conditions, *final)
	return true
}

// noteSuspension sets or ends the condition Suspended and reports which of the
// two it did, "" for neither. A job's clock begins anew when it is resumed.
func (r *jobRound) noteSuspension() batchv1.JobConditionType {
	const resumed = "Resumed"
	have := jobCondition(r.job, batchv1.JobSuspended)
	at := metav1.NewTime(r.now)
	switch on := have != nil && have.Status == corev1.ConditionTrue; {
	case isSuspended(r.job) && !on:
		c := r.condition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
		if have != nil {
			*have = *c
		} else {
			r.job.Status.Conditions = append(r.job.Status.Conditions, *c)
		}
		r.job.Status.StartTime = nil
		return batchv1.JobSuspended
	case !isSuspended(r.job) && on:
		*have = *r.condition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		r.job.Status.StartTime = &at
		return resumed
	}
	return ""
}

// counts writes the numbers of pods into the status.
func (r *jobRound) counts() {
	ready, terminating := int32(r.ready), int32(r.terminating)
	r.job.Status.Active, r.job.Status.Ready, r.job.Status.Terminating = int32(r.running), &ready, &terminating
}
