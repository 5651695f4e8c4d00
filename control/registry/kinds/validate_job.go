package kinds

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits of jobs, as documented at batchv1.JobSpec.
const (
	maxIndexedParallelism = 100_000
	maxManyCompletions    = 100_000 // beyond them failed indexes and parallelism are limited
	maxOfMany             = 10_000
	maxManagedBy          = 63
)

func validateJob(j *batchv1.Job) field.ErrorList {
	at := field.NewPath("spec")
	errs := append(validateGeneratedSelector(j), validateJobSpec(&j.Spec, at)...)
	errs = append(errs, jobSelects(&j.Spec, at)...)
	if deref(j.Spec.CompletionMode) == batchv1.IndexedCompletion && deref(j.Spec.Completions) > 0 {
		last := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if len(validation.IsDNS1123Label(last)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last))
		}
	}
	return errs
}

// jobSelects wants a job to select its own pods.
func jobSelects(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.Selector == nil {
		return field.ErrorList{field.Required(at.Child("selector"), ""), mismatch(&s.Template, at.Child("template"))}
	}
	errs := validateSelector(s.Selector, at.Child("selector"))
	selector, err := metav1.LabelSelectorAsSelector(s.Selector)
	if err != nil || selector.Matches(labels.Set(s.Template.Labels)) {
		return errs
	}
	return append(errs, mismatch(&s.Template, at.Child("template")))
}

// validateGeneratedSelector wants a job without a selector of its own to have
// exactly the one that was made for it.
func validateGeneratedSelector(j *batchv1.Job) (errs field.ErrorList) {
	if isTrue(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	at := field.NewPath("spec", "template", "metadata", "labels")
	expected := map[string]string{batchv1.JobNameLabel: j.Name, batchv1.ControllerUidLabel: string(j.UID), oldJobName: j.Name, oldControllerUID: string(j.UID)}
	for _, label := range []string{oldControllerUID, oldJobName, batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		value, ok := j.Spec.Template.Labels[label]
		switch {
		case !ok:
			errs = append(errs, field.Required(at.Key(label), fmt.Sprintf("must be '%s'", expected[label])))
		case value != expected[label]:
			errs = append(errs, field.Invalid(at.Key(label), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", expected[label])))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err == nil && !selector.Matches(labels.Set{oldControllerUID: string(j.UID), batchv1.ControllerUidLabel: string(j.UID),
		oldJobName: j.Name, batchv1.JobNameLabel: j.Name}) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

// validateJobSpec checks what jobs and their templates in cron jobs share.
func validateJobSpec(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	errs := all(
		optionalCount(s.Parallelism, at.Child("parallelism")),
		optionalCount(s.Completions, at.Child("completions")),
		optionalCount(s.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds")),
		optionalCount(s.BackoffLimit, at.Child("backoffLimit")),
		optionalCount(s.TTLSecondsAfterFinished, at.Child("ttlSecondsAfterFinished")),
		optionalCount(s.BackoffLimitPerIndex, at.Child("backoffLimitPerIndex")),
		optionalCount(s.MaxFailedIndexes, at.Child("maxFailedIndexes")),
	)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(at.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if by := s.ManagedBy; by != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(at.Child("managedBy"), *by)...)
		if len(*by) > maxManagedBy {
			errs = append(errs, field.TooLong(at.Child("managedBy"), *by, maxManagedBy))
		}
	}
	if mode := s.CompletionMode; mode != nil {
		errs = append(errs, knownOf(*mode, at.Child("completionMode"), batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
	}
	if deref(s.CompletionMode) == batchv1.IndexedCompletion {
		errs = append(errs, validateIndexed(s, at)...)
	} else if s.CompletionMode == nil || *s.CompletionMode == batchv1.NonIndexedCompletion {
		errs = append(errs, validateNotIndexed(s, at)...)
	}
	errs = append(errs, validatePodFailurePolicy(s, at.Child("podFailurePolicy"))...)
	if s.SuccessPolicy != nil {
		errs = append(errs, validateSuccessPolicy(s, at.Child("successPolicy"))...)
	}
	if policy := s.PodReplacementPolicy; policy != nil && s.PodFailurePolicy != nil {
		errs = append(errs, knownOf(*policy, at.Child("podReplacementPolicy"), batchv1.Failed)...)
	} else {
		errs = append(errs, optionalOf(policy, at.Child("podReplacementPolicy"), batchv1.Failed, batchv1.TerminatingOrFailed)...)
	}
	return append(errs, validateJobTemplatePod(s, at.Child("template"))...)
}

// validateJobTemplatePod checks the pod template of a job, whose pods must be
// able to end.
func validateJobTemplatePod(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	errs := validateTemplate(&s.Template, at)
	at = at.Child("spec", "restartPolicy")
	policy := s.Template.Spec.RestartPolicy
	switch {
	case policy != "" && policy != corev1.RestartPolicyAlways && policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.NotSupported(at, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.Required(at, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case s.PodFailurePolicy != nil && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.Invalid(at, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	return errs
}

func validateIndexed(s *batchv1.JobSpec, at *field.Path) (errs field.ErrorList) {
	if s.Completions == nil {
		errs = append(errs, field.Required(at.Child("completions"), "when completion mode is Indexed"))
	}
	if p := s.Parallelism; p != nil && *p > maxIndexedParallelism {
		errs = append(errs, field.Invalid(at.Child("parallelism"), *p,
			fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexedParallelism)))
	}
	failed := s.MaxFailedIndexes
	if s.Completions != nil && failed != nil && *failed > *s.Completions {
		errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *failed, "must be less than or equal to completions"))
	}
	if failed != nil && *failed > maxIndexedParallelism {
		errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *failed, fmt.Sprintf("must be less than or equal to %d", maxIndexedParallelism)))
	}
	if deref(s.Completions) <= maxManyCompletions || s.BackoffLimitPerIndex == nil {
		return errs
	}
	limited := fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", maxOfMany, maxManyCompletions)
	if failed == nil {
		errs = append(errs, field.Required(at.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", maxManyCompletions)))
	} else if *failed > maxOfMany {
		errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *failed, limited))
	}
	if p := s.Parallelism; p != nil && *p > maxOfMany {
		errs = append(errs, field.Invalid(at.Child("parallelism"), *p, limited))
	}
	return errs
}

func validateNotIndexed(s *batchv1.JobSpec, at *field.Path) (errs field.ErrorList) {
	if n := s.BackoffLimitPerIndex; n != nil {
		errs = append(errs, field.Invalid(at.Child("backoffLimitPerIndex"), *n, "requires indexed completion mode"))
	}
	if n := s.MaxFailedIndexes; n != nil {
		errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *n, "requires indexed completion mode"))
	}
	return errs
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	at := field.NewPath("spec")
	errs := all(
		validateJobSpec(&j.Spec, at), jobSelects(&j.Spec, at),
		validateCompletionsUpdate(&j.Spec, &old.Spec, at.Child("completions")),
		unchanged(j.Spec.Selector, old.Spec.Selector, at.Child("selector")),
		validateJobTemplateUpdate(j, old, at.Child("template")),
		unchanged(j.Spec.CompletionMode, old.Spec.CompletionMode, at.Child("completionMode")),
		unchanged(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, at.Child("podFailurePolicy")),
		unchanged(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, at.Child("backoffLimitPerIndex")),
		unchanged(j.Spec.ManagedBy, old.Spec.ManagedBy, at.Child("managedBy")),
		unchanged(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, at.Child("successPolicy")),
	)
	return errs
}

// validateCompletionsUpdate lets an indexed job grow and shrink if it runs all
// of its indexes at once.
func validateCompletionsUpdate(now, before *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now.Completions, before.Completions) {
		return nil
	}
	if deref(before.CompletionMode) != batchv1.IndexedCompletion || now.Completions == nil || before.Completions == nil ||
		!apiequality.Semantic.DeepEqual(before.Completions, before.Parallelism) {
		return unchanged(now.Completions, before.Completions, at)
	}
	if apiequality.Semantic.DeepEqual(now.Completions, now.Parallelism) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, now.Completions, "can only be modified in tandem with spec.parallelism")}
}

// validateJobTemplateUpdate lets a job that has not begun be told where its
// pods go.
func validateJobTemplateUpdate(j, old *batchv1.Job, at *field.Path) field.ErrorList {
	template := j.Spec.Template.DeepCopy()
	if isTrue(old.Spec.Suspend) && old.Status.StartTime == nil {
		before := &old.Spec.Template
		template.Annotations, template.Labels = before.Annotations, before.Labels
		template.Spec.NodeSelector, template.Spec.Tolerations = before.Spec.NodeSelector, before.Spec.Tolerations
		template.Spec.SchedulingGates, template.Spec.Affinity = before.Spec.SchedulingGates, before.Spec.Affinity
		if len(template.Spec.Containers) == len(before.Spec.Containers) && len(template.Spec.InitContainers) == len(before.Spec.InitContainers) {
			i := 0
			resources := slices.Collect(func(yield func(*corev1.Container) bool) { eachContainer(&before.Spec)(yield) })
			for c := range eachContainer(&template.Spec) {
				c.Resources = resources[i].Resources
				i++
			}
		}
	}
	if isTrue(old.Spec.Suspend) {
		return unchanged(template.Spec, old.Spec.Template.Spec, at.Child("spec"))
	}
	return unchanged(*template, old.Spec.Template, at)
}

func validateJobStatus(j, old *batchv1.Job) (errs field.ErrorList) {
	s, at := &j.Status, field.NewPath("status")
	errs = all(notNegative(s.Active, at.Child("active")), notNegative(s.Succeeded, at.Child("succeeded")), notNegative(s.Failed, at.Child("failed")),
		optionalCount(s.Ready, at.Child("ready")), optionalCount(s.Terminating, at.Child("terminating")))
	if s.Ready != nil && *s.Ready > s.Active {
		errs = append(errs, field.Invalid(at.Child("ready"), *s.Ready, "cannot set more ready pods than active"))
	}
	complete, failed := jobHas(j, batchv1.JobComplete), jobHas(j, batchv1.JobFailed)
	switch {
	case complete && failed:
		errs = append(errs, field.Invalid(at.Child("conditions"), field.OmitValueType{}, "cannot set Complete=True and Failed=true conditions"))
	case (complete || failed) && s.Active > 0:
		errs = append(errs, field.Invalid(at.Child("active"), s.Active, "active>0 is invalid for finished job"))
	case complete && s.CompletionTime == nil:
		errs = append(errs, field.Required(at.Child("completionTime"), "completionTime is required for Complete jobs"))
	case !complete && s.CompletionTime != nil:
		errs = append(errs, field.Invalid(at.Child("completionTime"), s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	}
	if s.StartTime == nil && (complete || failed) {
		errs = append(errs, field.Required(at.Child("startTime"), "startTime is required for finished job"))
	}
	for _, kept := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if jobHas(old, kept) && !jobHas(j, kept) {
			errs = append(errs, field.Invalid(at.Child("conditions"), field.OmitValueType{}, fmt.Sprintf("cannot disable the terminal %s=True condition", kept)))
		}
	}
	if p := s.UncountedTerminatedPods; p != nil {
		errs = append(errs, validateUncounted(p, at.Child("uncountedTerminatedPods"))...)
	}
	return errs
}

// validateUncounted wants the pods that wait to be counted to be named once.
func validateUncounted(p *batchv1.UncountedTerminatedPods, at *field.Path) (errs field.ErrorList) {
	for i, uid := range p.Succeeded {
		if strings.TrimSpace(string(uid)) == "" {
			errs = append(errs, field.Invalid(at.Child("succeeded").Index(i), uid, "must not be empty"))
		} else if slices.Contains(p.Succeeded[:i], uid) {
			errs = append(errs, field.Duplicate(at.Child("succeeded").Index(i), uid))
		}
	}
	for i, uid := range p.Failed {
		if uid == "" {
			errs = append(errs, field.Invalid(at.Child("failed").Index(i), uid, "must not be empty"))
		} else if slices.Contains(p.Failed[:i], uid) || slices.Contains(p.Succeeded, uid) {
			errs = append(errs, field.Duplicate(at.Child("failed").Index(i), uid))
		}
	}
	return errs
}
