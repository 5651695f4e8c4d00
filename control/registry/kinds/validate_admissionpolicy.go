package kinds

import (
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits of policies.
const (
	maxAuditAnnotations = 20
	maxAuditKey         = 317
)

// identifier is a name that expressions can use.
var identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)

// validateValidatingPolicy checks everything but the expressions themselves,
// which belong to who compiles them.
func validateValidatingPolicy(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) field.ErrorList {
	at := field.NewPath("spec")
	errs := validatePolicy(s.ParamKind, s.MatchConstraints, s.Variables, s.MatchConditions, s.FailurePolicy, at)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		const text = "validations or auditAnnotations must contain at least one item"
		errs = append(errs, field.Required(at.Child("validations"), text), field.Required(at.Child("auditAnnotations"), text))
	}
	for i, v := range s.Validations {
		at := at.Child("validations").Index(i)
		errs = append(errs, required(strings.TrimSpace(v.Expression), at.Child("expression"), "expression is not specified")...)
		if v.MessageExpression != "" && strings.TrimSpace(v.MessageExpression) == "" {
			errs = append(errs, field.Invalid(at.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified"))
		}
		switch message := strings.TrimSpace(v.Message); {
		case v.Message != "" && message == "":
			errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must be non-empty if specified"))
		case strings.Contains(message, "\n"):
			errs = append(errs, field.Invalid(at.Child("message"), v.Message, "must not contain line breaks"))
		case strings.Contains(v.Expression, "\n") && message == "":
			errs = append(errs, field.Required(at.Child("message"), "message must be specified if expression contains line breaks"))
		}
		errs = append(errs, optionalOf(v.Reason, at.Child("reason"), metav1.StatusReasonForbidden, metav1.StatusReasonInvalid,
			metav1.StatusReasonRequestEntityTooLarge)...)
	}
	return append(errs, validateAuditAnnotations(s.AuditAnnotations, at.Child("auditAnnotations"))...)
}

func validateAuditAnnotations(list []admissionregistrationv1.AuditAnnotation, at *field.Path) (errs field.ErrorList) {
	if len(list) > maxAuditAnnotations {
		errs = append(errs, field.Invalid(at, field.OmitValueType{}, "must not have more than 20 auditAnnotations"))
	}
	for i, a := range list {
		at := at.Index(i)
		if len(a.Key) > maxAuditKey {
			errs = append(errs, field.Invalid(at.Child("key"), a.Key, "the annotation key is too long together with the policy's name"))
		}
		errs = append(errs, invalid(at.Child("key"), a.Key, validation.IsQualifiedName(a.Key))...)
		if slices.ContainsFunc(list[:i], func(o admissionregistrationv1.AuditAnnotation) bool { return o.Key == a.Key }) {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		errs = append(errs, required(strings.TrimSpace(a.ValueExpression), at.Child("valueExpression"), "valueExpression is not specified")...)
	}
	return errs
}

func validateMutatingPolicy(s *admissionregistrationv1.MutatingAdmissionPolicySpec) field.ErrorList {
	at := field.NewPath("spec")
	errs := validatePolicy(s.ParamKind, s.MatchConstraints, s.Variables, s.MatchConditions, s.FailurePolicy, at)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(at.Child("mutations"), "mutations must contain at least one item"))
	}
	for i, m := range s.Mutations {
		at := at.Child("mutations").Index(i)
		switch m.PatchType {
		case "":
			errs = append(errs, field.Required(at.Child("patchType"), ""))
		case admissionregistrationv1.PatchTypeApplyConfiguration:
			if m.ApplyConfiguration == nil {
				errs = append(errs, field.Required(at.Child("applyConfiguration"), "must be specified when patchType is ApplyConfiguration"))
			} else {
				errs = append(errs, required(strings.TrimSpace(m.ApplyConfiguration.Expression), at.Child("applyConfiguration", "expression"), "")...)
			}
		case admissionregistrationv1.PatchTypeJSONPatch:
			if m.JSONPatch == nil {
				errs = append(errs, field.Required(at.Child("jsonPatch"), "must be specified when patchType is JSONPatch"))
			} else {
				errs = append(errs, required(strings.TrimSpace(m.JSONPatch.Expression), at.Child("jsonPatch", "expression"), "")...)
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("patchType"), m.PatchType, []admissionregistrationv1.PatchType{
				admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch}))
		}
	}
	return append(errs, oneOf(s.ReinvocationPolicy, at.Child("reinvocationPolicy"), admissionregistrationv1.IfNeededReinvocationPolicy,
		admissionregistrationv1.NeverReinvocationPolicy)...)
}

// validatePolicy checks what both kinds of policies share.
func validatePolicy(params *admissionregistrationv1.ParamKind, match *admissionregistrationv1.MatchResources, variables []admissionregistrationv1.Variable,
	conditions []admissionregistrationv1.MatchCondition, failure *admissionregistrationv1.FailurePolicyType, at *field.Path) (errs field.ErrorList) {
	if failure == nil {
		errs = append(errs, field.Required(at.Child("failurePolicy"), ""))
	}
	errs = append(errs, optionalOf(failure, at.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	if params != nil {
		errs = append(errs, validateParamKind(params, at.Child("paramKind"))...)
	}
	if match == nil {
		errs = append(errs, field.Required(at.Child("matchConstraints"), ""))
	} else {
		errs = append(errs, validateMatch(match, at.Child("matchConstraints"))...)
		if len(match.ResourceRules) == 0 {
			errs = append(errs, field.Required(at.Child("matchConstraints", "resourceRules"), ""))
		}
	}
	for i, v := range variables {
		at := at.Child("variables").Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		case !identifier.MatchString(v.Name):
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		errs = append(errs, required(strings.TrimSpace(v.Expression), at.Child("expression"), "expression is not specified")...)
	}
	return append(errs, validateMatchConditions(conditions, at.Child("matchConditions"))...)
}

func validateParamKind(k *admissionregistrationv1.ParamKind, at *field.Path) (errs field.ErrorList) {
	errs = all(required(k.APIVersion, at.Child("apiVersion"), ""), required(k.Kind, at.Child("kind"), ""))
	if gv, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		errs = append(errs, field.Invalid(at.Child("apiVersion"), k.APIVersion, err.Error()))
	} else if k.APIVersion != "" {
		errs = append(errs, validateName(gv.Group, at.Child("apiVersion"))...)
		errs = append(errs, invalid(at.Child("apiVersion"), gv.Version, validation.IsDNS1035Label(gv.Version))...)
	}
	if k.Kind != "" {
		errs = append(errs, invalid(at.Child("kind"), k.Kind, validation.IsDNS1035Label(strings.ToLower(k.Kind)))...)
	}
	return errs
}

func validateMatch(m *admissionregistrationv1.MatchResources, at *field.Path) (errs field.ErrorList) {
	errs = all(validateSelector(m.NamespaceSelector, at.Child("namespaceSelector")), validateSelector(m.ObjectSelector, at.Child("objectSelector")),
		optionalOf(m.MatchPolicy, at.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact))
	for name, rules := range map[string][]admissionregistrationv1.NamedRuleWithOperations{"resourceRules": m.ResourceRules, "excludeResourceRules": m.ExcludeResourceRules} {
		for i := range rules {
			at := at.Child(name).Index(i)
			errs = append(errs, validateRule(&rules[i].RuleWithOperations, at)...)
			for j, resource := range rules[i].ResourceNames {
				errs = append(errs, validateSegment(resource, at.Child("resourceNames").Index(j), "")...)
				if slices.Contains(rules[i].ResourceNames[:j], resource) {
					errs = append(errs, field.Duplicate(at.Child("resourceNames").Index(j), resource))
				}
			}
		}
	}
	return errs
}

const exclusiveText = "name and selector are mutually exclusive"

func validatePolicyBinding(policy string, ref *admissionregistrationv1.ParamRef, match *admissionregistrationv1.MatchResources) field.ErrorList {
	at := field.NewPath("spec")
	errs := all(required(policy, at.Child("policyName"), ""), validateName(policy, at.Child("policyName")))
	if match != nil {
		errs = append(errs, validateMatch(match, at.Child("matchResources"))...)
	}
	if ref == nil {
		return errs
	}
	at = at.Child("paramRef")
	switch {
	case ref.Name != "" && ref.Selector != nil:
		errs = append(errs, field.Forbidden(at.Child("name"), exclusiveText), field.Forbidden(at.Child("selector"), exclusiveText))
	case ref.Name != "":
		errs = append(errs, validateSegment(ref.Name, at.Child("name"), "")...)
	case ref.Selector != nil:
		errs = append(errs, validateSelector(ref.Selector, at.Child("selector"))...)
	default:
		errs = append(errs, field.Required(at, "one of name or selector must be specified"))
	}
	return append(errs, oneOf(deref(ref.ParameterNotFoundAction), at.Child("parameterNotFoundAction"), admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction)...)
}

func validateActions(list []admissionregistrationv1.ValidationAction, at *field.Path) (errs field.ErrorList) {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	for i, action := range list {
		errs = append(errs, knownOf(action, at.Index(i), admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)...)
		if slices.Contains(list[:i], action) {
			errs = append(errs, field.Duplicate(at.Index(i), action))
		}
	}
	if slices.Contains(list, admissionregistrationv1.Deny) && slices.Contains(list, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(at, list, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	return errs
}
