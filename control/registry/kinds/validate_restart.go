package kinds

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxRestartRules and maxRuleCodes bound what one container may say about its
// restarts.
const (
	maxRestartRules = 20
	maxRuleCodes    = 255
)

var (
	containerRestartPolicies = []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways,
		corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure}
	restartActions = []corev1.ContainerRestartRuleAction{
		corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers}
	exitCodeOperators = []corev1.ContainerRestartRuleOnExitCodesOperator{
		corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn}
)

// validateInitRestart checks when an init container restarts.
func validateInitRestart(c *corev1.Container, at *field.Path) field.ErrorList {
	if c.RestartPolicy == nil {
		return field.ErrorList{field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")}
	}
	return validateRestart(c, at)
}

// validateRestart checks a container's own restart policy and its rules
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restart-rules).
func validateRestart(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	if p := c.RestartPolicy; p != nil && !slices.Contains(containerRestartPolicies, *p) {
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), *p, containerRestartPolicies))
	}
	rules := at.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > 0 && c.RestartPolicy == nil {
		errs = append(errs, field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	if len(c.RestartPolicyRules) > maxRestartRules {
		errs = append(errs, field.TooMany(rules, len(c.RestartPolicyRules), maxRestartRules))
	}
	for i := range c.RestartPolicyRules {
		rule, at := &c.RestartPolicyRules[i], rules.Index(i)
		if !slices.Contains(restartActions, rule.Action) {
			errs = append(errs, field.NotSupported(at.Child("action"), rule.Action, restartActions))
		}
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), "must be specified"))
			continue
		}
		at = at.Child("exitCodes")
		if !slices.Contains(exitCodeOperators, rule.ExitCodes.Operator) {
			errs = append(errs, field.NotSupported(at.Child("operator"), rule.ExitCodes.Operator, exitCodeOperators))
		}
		if n := len(rule.ExitCodes.Values); n > maxRuleCodes {
			errs = append(errs, field.TooMany(at.Child("values"), n, maxRuleCodes))
		}
	}
	return errs
}
