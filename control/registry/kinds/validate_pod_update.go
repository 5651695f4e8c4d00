package kinds

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podUpdateText is Kubernetes' list of what may change in a pod's spec.
const podUpdateText = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`," +
	"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n%v"

// validatePodUpdate wants everything but the few mutable fields unchanged. It
// follows ValidatePodUpdate of Kubernetes.
func validatePodUpdate(pod, old *corev1.Pod) (errs field.ErrorList) {
	at := field.NewPath("spec")
	before, after := &old.Spec, &pod.Spec
	if len(before.Containers) != len(after.Containers) {
		return append(errs, field.Forbidden(at.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(before.InitContainers) != len(after.InitContainers) {
		return append(errs, field.Forbidden(at.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, validateImages(after.Containers, at.Child("containers"))...)
	errs = append(errs, validateImages(after.InitContainers, at.Child("initContainers"))...)
	errs = append(errs, validateDeadlineUpdate(after.ActiveDeadlineSeconds, before.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds"))...)
	errs = append(errs, validateAddedTolerations(after.Tolerations, before.Tolerations, at.Child("tolerations"))...)
	errs = append(errs, validateGatesUpdate(after.SchedulingGates, before.SchedulingGates, at.Child("schedulingGates"))...)
	if len(errs) > 0 {
		return errs
	}
	rest := after.DeepCopy()
	restoreMutable(rest, before)
	if !apiequality.Semantic.DeepEqual(rest, before) {
		errs = append(errs, field.Forbidden(at, fmt.Sprintf(podUpdateText, diff.Diff(hubValue{before}, hubValue{rest}))))
	}
	return errs
}

// validateImages checks the one field of containers that may change.
func validateImages(list []corev1.Container, at *field.Path) (errs field.ErrorList) {
	for i, c := range list {
		if c.Image == "" {
			errs = append(errs, field.Required(at.Index(i).Child("image"), ""))
		} else if strings.TrimSpace(c.Image) != c.Image {
			errs = append(errs, field.Invalid(at.Index(i).Child("image"), c.Image, "must not have leading or trailing whitespace"))
		}
	}
	return errs
}

// restoreMutable sets the fields that may change to what they were.
func restoreMutable(spec, old *corev1.PodSpec) {
	for i := range spec.Containers {
		spec.Containers[i].Image = old.Containers[i].Image
	}
	for i := range spec.InitContainers {
		spec.InitContainers[i].Image = old.InitContainers[i].Image
	}
	spec.ActiveDeadlineSeconds, spec.Tolerations = old.ActiveDeadlineSeconds, old.Tolerations
	if g := old.TerminationGracePeriodSeconds; g != nil && *g < 0 && spec.TerminationGracePeriodSeconds != nil && *spec.TerminationGracePeriodSeconds == 1 {
		spec.TerminationGracePeriodSeconds = g
	}
	if len(old.SchedulingGates) > 0 {
		spec.SchedulingGates = old.SchedulingGates
		// A gated pod may still be told where to go.
		spec.NodeSelector, spec.Affinity = old.NodeSelector, old.Affinity
	}
}

func validateDeadlineUpdate(now, before *int64, at *field.Path) field.ErrorList {
	switch {
	case now != nil && (*now < 0 || *now > 1<<31-1):
		return field.ErrorList{field.Invalid(at, *now, validation.InclusiveRangeError(0, 1<<31-1))}
	case now != nil && before != nil && *now > *before:
		return field.ErrorList{field.Invalid(at, *now, "must be less than or equal to previous value")}
	case now == nil && before != nil:
		return field.ErrorList{field.Invalid(at, now, "must not update from a positive integer to nil value")}
	}
	return nil
}

// validateAddedTolerations lets tolerations be added, and their seconds be
// changed, but none be removed.
func validateAddedTolerations(now, before []corev1.Toleration, at *field.Path) field.ErrorList {
	for _, old := range before {
		old.TolerationSeconds = nil
		kept := slices.ContainsFunc(now, func(t corev1.Toleration) bool {
			t.TolerationSeconds = nil
			return t == old
		})
		if !kept {
			return field.ErrorList{field.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return validateTolerations(now, at)
}

func validateGatesUpdate(now, before []corev1.PodSchedulingGate, at *field.Path) (errs field.ErrorList) {
	for i, gate := range now {
		if !slices.Contains(before, gate) {
			errs = append(errs, field.Forbidden(at.Index(i).Child("name"), "only deletion is allowed, but found new scheduling gate '"+gate.Name+"'"))
		}
	}
	return errs
}

// validatePodStatus checks a report about a pod: containers that may not be
// started again stay ended.
func validatePodStatus(pod, old *corev1.Pod) (errs field.ErrorList) {
	at := field.NewPath("status")
	if name := pod.Status.NominatedNodeName; name != "" {
		errs = append(errs, invalid(at.Child("nominatedNodeName"), name, validation.IsDNS1123Subdomain(name))...)
	}
	for i, ip := range pod.Status.PodIPs {
		errs = append(errs, validation.IsValidIP(at.Child("podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	if old.Status.QOSClass != "" && pod.Status.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(at.Child("qosClass"), pod.Status.QOSClass, "field is immutable"))
	}
	if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways || restartsAll(&pod.Spec) {
		return errs
	}
	for i, c := range pod.Status.ContainerStatuses {
		j := slices.IndexFunc(old.Status.ContainerStatuses, func(o corev1.ContainerStatus) bool { return o.Name == c.Name })
		if j < 0 || c.State.Terminated != nil {
			continue
		}
		ended := old.Status.ContainerStatuses[j].State.Terminated
		if ended == nil || mayRestart(&pod.Spec, c.Name, ended.ExitCode) {
			continue
		}
		errs = append(errs, field.Forbidden(at.Child("containerStatuses").Index(i).Child("state"), "may not be transitioned to non-terminated state"))
	}
	return errs
}

// restartsAll reports whether the end of some container may begin all others
// anew.
func restartsAll(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(slices.Concat(spec.InitContainers, spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// mayRestart reports whether a container that has ended with a code may run
// again: by one of its rules, by its own policy or by the pod's.
func mayRestart(spec *corev1.PodSpec, name string, code int32) bool {
	policy := spec.RestartPolicy
	if i := slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		c := &spec.Containers[i]
		if c.RestartPolicy != nil {
			policy = corev1.RestartPolicy(*c.RestartPolicy)
		}
		for _, rule := range c.RestartPolicyRules {
			if rule.ExitCodes != nil && slices.Contains(rule.ExitCodes.Values, code) == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
				return true
			}
		}
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}
