package controller

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// failureMatch is what a job's podFailurePolicy says of a failed pod. The zero
// value is what holds without a rule: it counts.
type failureMatch struct {
	action  batchv1.PodFailurePolicyAction // "": no rule matched
	message string                         // of FailJob
}

// counts says whether the failure goes into status.failed.
func (m failureMatch) counts() bool { return m.action != batchv1.PodFailurePolicyActionIgnore }

// matchFailure finds the first rule that a failed pod matches. Rules with
// actions that are not known are skipped.
func matchFailure(job *batchv1.Job, pod *corev1.Pod) failureMatch {
	if job.Spec.PodFailurePolicy == nil {
		return failureMatch{}
	}
	for i, rule := range job.Spec.PodFailurePolicy.Rules {
		why, ok := "", false
		if rule.OnExitCodes != nil {
			var name string
			var code int32
			if name, code, ok = matchExitCodes(&pod.Status, rule.OnExitCodes); ok {
				why = fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
					name, pod.Namespace, pod.Name, code, rule.Action, i)
			}
		} else {
			var condition corev1.PodConditionType
			if condition, ok = matchConditions(&pod.Status, rule.OnPodConditions); ok {
				why = fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d",
					pod.Namespace, pod.Name, condition, rule.Action, i)
			}
		}
		if !ok {
			continue
		}
		switch rule.Action {
		case batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount:
			return failureMatch{action: rule.Action}
		case batchv1.PodFailurePolicyActionFailIndex:
			if job.Spec.BackoffLimitPerIndex != nil {
				return failureMatch{action: rule.Action}
			}
		case batchv1.PodFailurePolicyActionFailJob:
			return failureMatch{action: rule.Action, message: why}
		}
	}
	return failureMatch{}
}

// matchExitCodes looks for a container that failed with one of the codes.
// Those that ended well are not looked at.
func matchExitCodes(status *corev1.PodStatus, rule *batchv1.PodFailurePolicyOnExitCodesRequirement) (name string, code int32, ok bool) {
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for _, c := range list {
			ended := c.State.Terminated
			if ended == nil || ended.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != c.Name {
				continue
			}
			listed := slices.Contains(rule.Values, ended.ExitCode)
			if listed && rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn ||
				!listed && rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn {
				return c.Name, ended.ExitCode, true
			}
		}
	}
	return "", 0, false
}

func matchConditions(status *corev1.PodStatus, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) (corev1.PodConditionType, bool) {
	for _, c := range status.Conditions {
		for _, p := range patterns {
			if p.Type == c.Type && p.Status == c.Status {
				return c.Type, true
			}
		}
	}
	return "", false
}

// matchSuccess finds the first rule of a job's successPolicy that the
// succeeded indexes meet, and says which.
func matchSuccess(job *batchv1.Job, succeeded indexes) (message string, met bool) {
	if job.Spec.SuccessPolicy == nil || job.Spec.Completions == nil {
		return "", false
	}
	for i, rule := range job.Spec.SuccessPolicy.Rules {
		have, want := succeeded.total(), int(*job.Spec.Completions)
		if rule.SucceededIndexes != nil {
			asked := parseIndexes(*rule.SucceededIndexes, int(*job.Spec.Completions))
			have, want = succeeded.common(asked), asked.total()
		}
		if rule.SucceededCount != nil {
			want = int(*rule.SucceededCount)
		}
		if have >= want {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
