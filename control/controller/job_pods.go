package controller

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

// noIndex is the completion index of a pod that has none.
const noIndex = -1

// completionIndexEnv tells the containers of an indexed job their index.
const completionIndexEnv = "JOB_COMPLETION_INDEX"

func isIndexed(job *batchv1.Job) bool {
	return job.Spec.CompletionMode != nil && *job.Spec.CompletionMode == batchv1.IndexedCompletion && job.Spec.Completions != nil
}

func isSuspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

// replacesOnlyFailed says that a pod which is being deleted counts neither as
// failed nor as replaceable before it has ended.
func replacesOnlyFailed(job *batchv1.Job) bool {
	p := job.Spec.PodReplacementPolicy
	return job.Spec.PodFailurePolicy != nil || p != nil && *p == batchv1.Failed
}

func parallelism(job *batchv1.Job) int {
	if job.Spec.Parallelism == nil {
		return 1
	}
	return int(*job.Spec.Parallelism)
}

// indexOf is a pod's completion index, noIndex when it has none that the job
// knows.
func indexOf(job *batchv1.Job, pod *corev1.Pod) int {
	index, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || index < 0 || job.Spec.Completions == nil || index >= int(*job.Spec.Completions) {
		return noIndex
	}
	return index
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

func isTerminating(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil && !podFinished(pod) }

// failedFor says whether a pod counts as failed for its job.
func failedFor(job *batchv1.Job, pod *corev1.Pod) bool {
	if replacesOnlyFailed(job) {
		return pod.Status.Phase == corev1.PodFailed
	}
	return pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

// endedAt is when a pod ended, as near as its status tells.
func endedAt(pod *corev1.Pod, now time.Time) time.Time {
	var last time.Time
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	if !last.IsZero() {
		return last
	}
	if c := podReadyCondition(pod); c != nil && c.Status != corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if pod.DeletionTimestamp != nil {
		at := pod.DeletionTimestamp.Time
		if grace := pod.DeletionGracePeriodSeconds; grace != nil {
			at = at.Add(-time.Duration(*grace) * time.Second)
		}
		return at
	}
	return now
}

// failuresOf are the failures of an index before a pod, as its annotations
// count them: those that count towards the index's limit, and those that the
// failure policy ignores.
func failuresOf(pod *corev1.Pod) (counted, ignored int) {
	counted, _ = strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
	ignored, _ = strconv.Atoi(pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation])
	return counted, ignored
}

// podOfJob makes a pod of a job, for an index or noIndex. before is the failed
// pod of the index that it replaces, nil for the first.
func podOfJob(job *batchv1.Job, index int, before *corev1.Pod) *corev1.Pod {
	prefix := job.Name + "-"
	if index != noIndex {
		prefix = indexedPrefix(job.Name, index)
	}
	pod := podFrom(job, api.Jobs, &job.Spec.Template, prefix)
	pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	if index == noIndex {
		return pod
	}
	text := strconv.Itoa(index)
	setLabel(pod, batchv1.JobCompletionIndexAnnotation, text)
	setAnnotation(pod, batchv1.JobCompletionIndexAnnotation, text)
	pod.Spec.Hostname = fmt.Sprintf("%s-%d", job.Name, index)
	tellIndex(pod.Spec.InitContainers)
	tellIndex(pod.Spec.Containers)
	if job.Spec.BackoffLimitPerIndex != nil {
		counted, ignored := 0, 0
		if before != nil {
			counted, ignored = failuresOf(before)
			if matchFailure(job, before).counts() {
				counted++
			} else {
				ignored++
			}
		}
		setAnnotation(pod, batchv1.JobIndexFailureCountAnnotation, strconv.Itoa(counted))
		if ignored > 0 {
			setAnnotation(pod, batchv1.JobIndexIgnoredFailureCountAnnotation, strconv.Itoa(ignored))
		}
	}
	return pod
}

// indexedPrefix is the name of an indexed pod without its random end; the
// job's name gives way when the whole would be too long.
func indexedPrefix(name string, index int) string {
	end := "-" + strconv.Itoa(index) + "-"
	const longest = 58 // five random characters follow
	return name[:min(len(name), longest-len(end))] + end
}

func tellIndex(containers []corev1.Container) {
	for i := range containers {
		c := &containers[i]
		if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == completionIndexEnv }) {
			continue
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: completionIndexEnv, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)},
		}})
	}
}

func setLabel(pod *corev1.Pod, name, value string) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[name] = value
}

func setAnnotation(pod *corev1.Pod, name, value string) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[name] = value
}
