package kinds

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits of the policies of a job.
const (
	maxFailureRules    = 20
	maxExitCodes       = 255
	maxConditionRules  = 20
	maxSuccessRules    = 20
	maxIndexesTextSize = 64 * 1024
)

var failureActions = []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
	batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}

func validatePodFailurePolicy(s *batchv1.JobSpec, at *field.Path) (errs field.ErrorList) {
	if s.PodFailurePolicy == nil {
		return nil
	}
	at = at.Child("rules")
	if n := len(s.PodFailurePolicy.Rules); n > maxFailureRules {
		errs = append(errs, field.TooMany(at, n, maxFailureRules))
	}
	var names []string
	for c := range eachContainer(&s.Template.Spec) {
		names = append(names, c.Name)
	}
	for i, rule := range s.PodFailurePolicy.Rules {
		at := at.Index(i)
		errs = append(errs, namedOf(rule.Action, at.Child("action"), failureActions...)...)
		if rule.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(at.Child("action"), rule.Action, "requires the backoffLimitPerIndex to be set"))
		}
		switch on := rule.OnExitCodes; {
		case on != nil && len(rule.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case on == nil && len(rule.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		case on != nil:
			errs = append(errs, validateExitCodes(on, names, at.Child("onExitCodes"))...)
		}
		if n := len(rule.OnPodConditions); n > maxConditionRules {
			errs = append(errs, field.TooMany(at.Child("onPodConditions"), n, maxConditionRules))
		}
		for j, pattern := range rule.OnPodConditions {
			at := at.Child("onPodConditions").Index(j)
			errs = append(errs, invalid(at.Child("type"), pattern.Type, validation.IsQualifiedName(string(pattern.Type)))...)
			errs = append(errs, oneOf(pattern.Status, at.Child("status"), corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
		}
	}
	return errs
}

func validateExitCodes(on *batchv1.PodFailurePolicyOnExitCodesRequirement, names []string, at *field.Path) (errs field.ErrorList) {
	errs = namedOf(on.Operator, at.Child("operator"), batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if on.ContainerName != nil && !slices.Contains(names, *on.ContainerName) {
		errs = append(errs, field.Invalid(at.Child("containerName"), *on.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	at = at.Child("values")
	if n := len(on.Values); n == 0 {
		errs = append(errs, field.Invalid(at, on.Values, "at least one value is required"))
	} else if n > maxExitCodes {
		errs = append(errs, field.TooMany(at, n, maxExitCodes))
	}
	ordered := true
	for i, code := range on.Values {
		if on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && code == 0 {
			errs = append(errs, field.Invalid(at.Index(i), code, "must not be 0 for the In operator"))
		}
		if slices.Contains(on.Values[:i], code) {
			errs = append(errs, field.Duplicate(at.Index(i), code))
		}
		ordered = ordered && (i == 0 || code >= on.Values[i-1])
	}
	if !ordered {
		errs = append(errs, field.Invalid(at, on.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, at *field.Path) (errs field.ErrorList) {
	if deref(s.CompletionMode) != batchv1.IndexedCompletion {
		return field.ErrorList{field.Invalid(at, hubValue{s.SuccessPolicy}, "requires indexed completion mode")}
	}
	rules := at.Child("rules")
	if n := len(s.SuccessPolicy.Rules); n == 0 {
		return field.ErrorList{field.Required(rules, "at least one rules must be specified when the successPolicy is specified")}
	} else if n > maxSuccessRules {
		errs = append(errs, field.TooMany(rules, n, maxSuccessRules))
	}
	if s.Completions == nil {
		return errs // there is nothing to measure indexes by
	}
	for i, rule := range s.SuccessPolicy.Rules {
		at := rules.Index(i)
		if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		total := 0
		if text := rule.SucceededIndexes; text != nil {
			at := at.Child("succeededIndexes")
			if len(*text) > maxIndexesTextSize {
				errs = append(errs, field.TooLong(at, *text, maxIndexesTextSize))
			}
			n, err := countIndexes(*text, *s.Completions)
			if err != nil {
				errs = append(errs, field.Invalid(at, *text, fmt.Sprintf("error parsing succeededIndexes: %s", err.Error())))
			} else {
				total = n
			}
		}
		if n := rule.SucceededCount; n != nil {
			at := at.Child("succeededCount")
			errs = append(errs, notNegative(*n, at)...)
			if *n > *s.Completions {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", *s.Completions)))
			}
			if rule.SucceededIndexes != nil && int(*n) > total {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
			}
		}
	}
	return errs
}

// countIndexes counts the indexes in a text like "1,3-5", which must be in
// order and below completions.
func countIndexes(text string, completions int32) (int, error) {
	if text == "" {
		return 0, nil
	}
	total, last := 0, -1
	for _, part := range strings.Split(text, ",") {
		first, second, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", first)
		}
		if from >= int(completions) {
			return 0, fmt.Errorf("too large index: %q", first)
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(second); err != nil {
				return 0, fmt.Errorf("cannot convert string to integer for index: %q", second)
			}
		}
		switch {
		case to >= int(completions):
			return 0, fmt.Errorf("too large index: %q", second)
		case isRange && to <= from:
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", from, to)
		case from <= last:
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, from)
		}
		total, last = total+to-from+1, to
	}
	return total, nil
}
