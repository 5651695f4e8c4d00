package kinds

import (
	"fmt"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Jobs is the kind Job of batch/v1.
func Jobs() Strategy[*batchv1.Job] {
	return Strategy[*batchv1.Job]{
		Resource: api.Jobs,
		Default:  defaultJob,
		Create: func(j *batchv1.Job) {
			j.Status = batchv1.JobStatus{}
			generateJobSelector(j)
		},
		Validate:       validateJob,
		ValidateUpdate: validateJobUpdate,
		Spec:           func(j *batchv1.Job) any { return &j.Spec },
		Status:         func(j *batchv1.Job) any { return &j.Status },
		ValidateStatus: validateJobStatus,
		Generation:     true,
		Fields: map[string]func(*batchv1.Job) string{
			"status.successful": func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) },
		},
		WarnChange: func(j, old *batchv1.Job) []string {
			return append(templateWarnings(j, old, old == nil, &j.Spec.Template, templatePath), manyIndexes(&j.Spec, field.NewPath("spec"))...)
		},
		Columns: columns("Name", "Status", "Completions", "Duration", "Age", "+Containers", "+Images", "+Selector"),
		Row: func(j *batchv1.Job, now time.Time) []any {
			names, images := templateContainers(&j.Spec.Template)
			return []any{j.Name, jobState(j), jobCompletions(j), jobDuration(j, now), age(j.CreationTimestamp, now), names, images,
				selectorText(j.Spec.Selector)}
		},
	}
}

// defaultBackoffLimit is how often a job's pods may fail.
const defaultBackoffLimit = 6

func defaultJob(j *batchv1.Job) {
	spec := &j.Spec
	if spec.Completions == nil && spec.Parallelism == nil {
		orPtr(&spec.Completions, 1)
	}
	orPtr(&spec.Parallelism, 1)
	if spec.BackoffLimitPerIndex != nil {
		orPtr(&spec.BackoffLimit, math.MaxInt32)
	}
	orPtr(&spec.BackoffLimit, defaultBackoffLimit)
	if len(j.Labels) == 0 {
		j.Labels = spec.Template.Labels // one map: what is generated for the pods is the job's too
	}
	orPtr(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	orPtr(&spec.Suspend, false)
	orPtr(&spec.ManualSelector, false)
	if spec.PodFailurePolicy != nil {
		defaultPodFailurePolicy(spec.PodFailurePolicy)
		orPtr(&spec.PodReplacementPolicy, batchv1.Failed)
	}
	orPtr(&spec.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	defaultTemplate(&spec.Template)
}

func defaultPodFailurePolicy(p *batchv1.PodFailurePolicy) {
	for _, rule := range p.Rules {
		for i := range rule.OnPodConditions {
			or(&rule.OnPodConditions[i].Status, corev1.ConditionTrue)
		}
	}
}

// The labels that tie pods to their job, with and without Kubernetes' prefix.
const (
	oldControllerUID = "controller-uid"
	oldJobName       = "job-name"
)

// generateJobSelector makes a job select its own pods, by its uid, unless the
// job brings a selector of its own.
func generateJobSelector(j *batchv1.Job) {
	if isTrue(j.Spec.ManualSelector) {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	uid := string(j.UID)
	for label, value := range map[string]string{oldJobName: j.Name, oldControllerUID: uid, batchv1.JobNameLabel: j.Name, batchv1.ControllerUidLabel: uid} {
		// A label of somebody else's is for validation to refuse.
		if _, taken := j.Spec.Template.Labels[label]; !taken {
			j.Spec.Template.Labels[label] = value
		}
	}
	orPtr(&j.Spec.Selector, metav1.LabelSelector{})
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, taken := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !taken {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = uid
	}
}

func jobHas(j *batchv1.Job, condition batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == condition {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// jobState is the STATUS column.
func jobState(j *batchv1.Job) string {
	switch {
	case jobHas(j, batchv1.JobComplete):
		return "Complete"
	case jobHas(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case jobHas(j, batchv1.JobSuspended):
		return "Suspended"
	case jobHas(j, batchv1.JobFailureTarget):
		return "FailureTarget"
	case jobHas(j, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobCompletions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if parallel := deref(j.Spec.Parallelism); parallel > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, parallel)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now time.Time) string {
	switch {
	case j.Status.StartTime == nil:
		return ""
	case j.Status.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
	}
	return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
}
