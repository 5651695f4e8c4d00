package controller

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// jobRound is one look at a job: what there is and what it amounts to. It
// does nothing; Kubernetes' documentation of Jobs and the comments of
// batchv1.JobSpec are its rules.
type jobRound struct {
	job  *batchv1.Job          // a copy, whose status is worked on
	pods []*corev1.Pod         // all that the job owns
	open map[types.UID]bool    // pods that hold the finalizer: they are not counted yet
	last map[int]*corev1.Pod   // failed pods that wait for their replacement, by index
	now  time.Time             //
	end  *batchv1.JobCondition // FailureTarget or SuccessCriteriaMet, once it is decided

	active            []*corev1.Pod
	succeeded, failed int // with those that are not in the status yet
	succeededIndexes  indexes
	failedIndexes     indexes
	running, ready    int // active pods and ready ones, after what the round does
	terminating       int
}

// newJobRound sorts the pods of a job. freed says of which pods the finalizer
// was taken though they are shown with it.
func newJobRound(job *batchv1.Job, pods []*corev1.Pod, freed func(types.UID) bool, now time.Time) *jobRound {
	r := &jobRound{job: job, pods: pods, now: now, open: map[types.UID]bool{}, last: map[int]*corev1.Pod{}}
	if r.job.Status.UncountedTerminatedPods == nil {
		r.job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	if job.Status.StartTime == nil && !isSuspended(job) {
		at := metav1.NewTime(now)
		job.Status.StartTime = &at
	}
	for _, p := range pods {
		if tracked(p) && !freed(p.UID) {
			r.open[p.UID] = true
		}
		switch {
		case podActive(p):
			r.active = append(r.active, p)
			if isReady(p) {
				r.ready++
			}
		case isTerminating(p):
			r.terminating++
		}
	}
	r.running = len(r.active)
	r.count()
	return r
}

// count adds up what is in the status and what will be.
func (r *jobRound) count() {
	status := &r.job.Status
	uncounted := uidSet(status.UncountedTerminatedPods.Succeeded, status.UncountedTerminatedPods.Failed)
	r.succeeded = int(status.Succeeded) + len(status.UncountedTerminatedPods.Succeeded)
	r.failed = int(status.Failed) + len(status.UncountedTerminatedPods.Failed)
	var succeeded, failed []int
	for _, p := range r.pods {
		index := indexOf(r.job, p)
		if !r.open[p.UID] || isIndexed(r.job) && index == noIndex {
			continue
		}
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			succeeded = append(succeeded, index)
			if !uncounted[p.UID] {
				r.succeeded++
			}
		case failedFor(r.job, p):
			match := matchFailure(r.job, p)
			if r.job.Spec.BackoffLimitPerIndex != nil && failsIndex(r.job, p, match) {
				failed = append(failed, index)
			}
			if !uncounted[p.UID] && match.counts() {
				r.failed++
			}
		}
	}
	if !isIndexed(r.job) {
		return
	}
	completions := int(*r.job.Spec.Completions)
	r.succeededIndexes = parseIndexes(status.CompletedIndexes, completions).withAll(succeeded)
	r.succeeded = r.succeededIndexes.total()
	if r.job.Spec.BackoffLimitPerIndex != nil {
		if status.FailedIndexes != nil {
			r.failedIndexes = parseIndexes(*status.FailedIndexes, completions)
		}
		for _, index := range failed {
			if !r.succeededIndexes.has(index) {
				r.failedIndexes = r.failedIndexes.with(interval{index, index})
			}
		}
		r.findLast()
	}
}

// failsIndex says that with this failure an index has had its tries.
func failsIndex(job *batchv1.Job, pod *corev1.Pod, match failureMatch) bool {
	if match.action == batchv1.PodFailurePolicyActionFailIndex {
		return true
	}
	counted, _ := failuresOf(pod)
	return match.counts() && counted >= int(*job.Spec.BackoffLimitPerIndex)
}

// findLast finds the failed pod of each index that is to be tried again. It
// keeps its finalizer until its replacement is there, which takes the number
// of failures from it.
func (r *jobRound) findLast() {
	tries := func(p *corev1.Pod) int {
		counted, ignored := failuresOf(p)
		return counted + ignored
	}
	for _, p := range r.pods {
		index := indexOf(r.job, p)
		if index == noIndex || !r.open[p.UID] || !failedFor(r.job, p) || r.succeededIndexes.has(index) || r.failedIndexes.has(index) {
			continue
		}
		if have := r.last[index]; have == nil || tries(have) < tries(p) || tries(have) == tries(p) && endedAt(have, r.now).Before(endedAt(p, r.now)) {
			r.last[index] = p
		}
	}
	for _, p := range r.pods { // one that was tried again already waits for nothing
		index := indexOf(r.job, p)
		if have := r.last[index]; have != nil && p != have && tries(p) > tries(have) {
			delete(r.last, index)
		}
	}
}

// judge decides whether the job is to end.
func (r *jobRound) judge() {
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if c := jobCondition(r.job, t); c != nil && c.Status == corev1.ConditionTrue {
			r.end = c
			return
		}
	}
	spec := &r.job.Spec
	if message := r.failMessage(); message != "" {
		r.fail(batchv1.JobReasonPodFailurePolicy, message)
	} else if r.failed > int(limit(spec.BackoffLimit)) || r.restartedTooOften() {
		r.fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	} else if left, watched := r.deadlineIn(); watched && left <= 0 {
		r.fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if r.end != nil || !isIndexed(r.job) {
		return
	}
	if spec.BackoffLimitPerIndex != nil {
		switch failed := r.failedIndexes.total(); {
		case spec.MaxFailedIndexes != nil && failed > int(*spec.MaxFailedIndexes):
			r.fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
			return
		case failed > 0 && failed+r.succeeded >= int(*spec.Completions):
			r.fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
			return
		}
	}
	if message, met := matchSuccess(r.job, r.succeededIndexes); met {
		r.end = r.condition(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonSuccessPolicy, message)
	}
}

func (r *jobRound) fail(reason, message string) {
	r.end = r.condition(batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
}

// failMessage is that of a pod whose failure fails the job.
func (r *jobRound) failMessage() string {
	if r.job.Spec.PodFailurePolicy == nil {
		return ""
	}
	for _, p := range r.pods {
		if failedFor(r.job, p) {
			if m := matchFailure(r.job, p); m.message != "" {
				return m.message
			}
		}
	}
	return ""
}

// restartedTooOften applies the limit to restarts in place, for pods whose
// failed containers are started again.
func (r *jobRound) restartedTooOften() bool {
	if r.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var restarts int32
	for _, p := range r.pods {
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending {
			continue
		}
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for _, s := range list {
				restarts += s.RestartCount
			}
		}
	}
	if most := limit(r.job.Spec.BackoffLimit); most > 0 {
		return restarts >= most
	}
	return restarts > 0
}

// deadlineIn is how long the job may be active yet; watched is false when
// there is no deadline, or its clock does not run.
func (r *jobRound) deadlineIn() (left time.Duration, watched bool) {
	if r.job.Spec.ActiveDeadlineSeconds == nil || r.job.Status.StartTime == nil || isSuspended(r.job) {
		return 0, false
	}
	until := r.job.Status.StartTime.Add(time.Duration(*r.job.Spec.ActiveDeadlineSeconds) * time.Second)
	return until.Sub(r.now), true
}

// complete says that enough pods have succeeded and none runs any more.
func (r *jobRound) complete() bool {
	if r.running > 0 {
		return false
	}
	if r.job.Spec.Completions == nil {
		return r.succeeded > 0
	}
	return r.succeeded >= int(*r.job.Spec.Completions)
}

func (r *jobRound) condition(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) *batchv1.JobCondition {
	at := metav1.NewTime(r.now)
	return &batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: at, LastTransitionTime: at}
}

// jobCondition returns a job's condition of the type, nil when it has none.
func jobCondition(job *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range job.Status.Conditions {
		if job.Status.Conditions[i].Type == t {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}

// jobFinished returns the condition by which a job is Complete or Failed, nil
// while it goes on.
func jobFinished(job *batchv1.Job) *batchv1.JobCondition {
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if c := jobCondition(job, t); c != nil && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// limit is a backoff limit with its default.
func limit(n *int32) int32 {
	if n == nil {
		return 6
	}
	return *n
}

func uidSet(lists ...[]types.UID) map[types.UID]bool {
	set := map[types.UID]bool{}
	for _, list := range lists {
		for _, uid := range list {
			set[uid] = true
		}
	}
	return set
}
