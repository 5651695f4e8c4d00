package kinds

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxQueues bounds the queues of one priority level.
const maxQueues = 10 * 1000 * 1000

func validateFlowSchema(f *flowcontrolv1.FlowSchema) (errs field.ErrorList) {
	spec, at := &f.Spec, field.NewPath("spec")
	for _, known := range MandatoryFlowSchemas() {
		if known.Name == f.Name && !apiequality.Semantic.DeepEqual(known.Spec, *spec) {
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name)))
		}
	}
	if m := spec.DistinguisherMethod; m != nil {
		errs = append(errs, knownOf(m.Type, at.Child("distinguisherMethod", "type"), flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)...)
	}
	if n := spec.MatchingPrecedence; n < 1 || n > flowcontrolv1.FlowSchemaMaxMatchingPrecedence {
		errs = append(errs, field.Invalid(at.Child("matchingPrecedence"), n,
			fmt.Sprintf("must be a value between 1 and %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	} else if n == 1 && f.Name != exemptFlow {
		errs = append(errs, field.Invalid(at.Child("matchingPrecedence"), n, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	level := at.Child("priorityLevelConfiguration", "name")
	errs = append(errs, required(spec.PriorityLevelConfiguration.Name, level, "must reference a priority level")...)
	errs = append(errs, validateName(spec.PriorityLevelConfiguration.Name, level)...)
	for i := range spec.Rules {
		errs = append(errs, validateFlowRule(&spec.Rules[i], at.Child("rules").Index(i))...)
	}
	return errs
}

func validateFlowSchemaUpdate(f, _ *flowcontrolv1.FlowSchema) field.ErrorList {
	return validateFlowSchema(f)
}

func validateFlowRule(r *flowcontrolv1.PolicyRulesWithSubjects, at *field.Path) (errs field.ErrorList) {
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(at.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateFlowSubject(&r.Subjects[i], at.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i, rule := range r.ResourceRules {
		at := at.Child("resourceRules").Index(i)
		errs = append(errs, some(rule.Verbs, "verbs must contain at least one value", "verbs", at.Child("verbs"))...)
		errs = append(errs, some(rule.APIGroups, "resource rules must supply at least one api group", "api groups", at.Child("apiGroups"))...)
		errs = append(errs, some(rule.Resources, "resource rules must supply at least one resource", "resources", at.Child("resources"))...)
		if len(rule.Namespaces) == 0 && !rule.ClusterScope {
			errs = append(errs, field.Required(at.Child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace"))
		} else if len(rule.Namespaces) > 1 && slices.Contains(rule.Namespaces, "*") {
			errs = append(errs, field.Invalid(at.Child("namespaces"), rule.Namespaces, "if '*' is present, must not specify other namespaces"))
		}
	}
	for i, rule := range r.NonResourceRules {
		at := at.Child("nonResourceRules").Index(i)
		errs = append(errs, some(rule.Verbs, "verbs must contain at least one value", "verbs", at.Child("verbs"))...)
		errs = append(errs, some(rule.NonResourceURLs, "nonResourceURLs must contain at least one value", "non-resource URLs", at.Child("nonResourceURLs"))...)
		for j, url := range rule.NonResourceURLs {
			at := at.Child("nonResourceURLs").Index(j)
			switch {
			case url == "*":
			case !strings.HasPrefix(url, "/"):
				errs = append(errs, field.Invalid(at, url, "must start with slash"))
			case strings.Contains(url, " "):
				errs = append(errs, field.Invalid(at, url, "must not contain white-space"))
			case strings.Contains(url, "//"):
				errs = append(errs, field.Invalid(at, url, "must not contain double slash"))
			case strings.Contains(strings.TrimSuffix(url, "*"), "*"):
				errs = append(errs, field.Invalid(at, url, "wildcard can only do suffix matching"))
			}
		}
	}
	return errs
}

// some wants a list with something in it, and nothing beside a wildcard.
func some(list []string, missing, what string, at *field.Path) field.ErrorList {
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(at, missing)}
	case len(list) > 1 && slices.Contains(list, "*"):
		return field.ErrorList{field.Invalid(at, list, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

func validateFlowSubject(s *flowcontrolv1.Subject, at *field.Path) (errs field.ErrorList) {
	given := []struct {
		kind flowcontrolv1.SubjectKind
		name string
		set  bool
	}{{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil},
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil}, {flowcontrolv1.SubjectKindGroup, "group", s.Group != nil}}
	known := false
	for _, g := range given {
		known = known || g.kind == s.Kind
		switch {
		case g.kind == s.Kind && !g.set:
			errs = append(errs, field.Required(at.Child(g.name), fmt.Sprintf("%s is required when subject kind is '%s'", g.name, s.Kind)))
		case g.kind != s.Kind && g.set:
			errs = append(errs, field.Forbidden(at.Child(g.name), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", g.name, g.kind)))
		}
	}
	if !known {
		return field.ErrorList{field.NotSupported(at.Child("kind"), s.Kind, []flowcontrolv1.SubjectKind{flowcontrolv1.SubjectKindGroup,
			flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser})}
	}
	switch {
	case s.ServiceAccount != nil:
		errs = append(errs, required(s.ServiceAccount.Name, at.Child("serviceAccount", "name"), "")...)
		errs = append(errs, required(s.ServiceAccount.Namespace, at.Child("serviceAccount", "namespace"), "must specify namespace for service account")...)
	case s.User != nil:
		errs = append(errs, required(s.User.Name, at.Child("user", "name"), "")...)
	case s.Group != nil:
		errs = append(errs, required(s.Group.Name, at.Child("group", "name"), "")...)
	}
	return errs
}

func validatePriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) (errs field.ErrorList) {
	spec, at := &p.Spec, field.NewPath("spec")
	if p.Name == catchAllFlow {
		if fixed := MandatoryPriorityLevels()[1].Spec; !apiequality.Semantic.DeepEqual(fixed, *spec) {
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, fmt.Sprintf("spec of '%s' except the spec.limited fields NominalConcurrencyShares and LendablePercent must equal the fixed value", p.Name)))
		}
	}
	if (p.Name == exemptFlow) != (spec.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(at.Child("type"), spec.Type, "type must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	switch spec.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if spec.Limited != nil {
			errs = append(errs, field.Forbidden(at.Child("limited"), "must be nil if the type is not Limited"))
		}
		if e := spec.Exempt; e == nil {
			errs = append(errs, field.Required(at.Child("exempt"), "must not be empty when type is Exempt"))
		} else {
			errs = append(errs, validateShares(e.NominalConcurrencyShares, e.LendablePercent, at.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if spec.Exempt != nil {
			errs = append(errs, field.Forbidden(at.Child("exempt"), "must be nil if the type is Limited"))
		}
		if spec.Limited == nil {
			errs = append(errs, field.Required(at.Child("limited"), "must not be empty when type is Limited"))
		} else {
			errs = append(errs, validateLimited(spec.Limited, at.Child("limited"))...)
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), spec.Type, []flowcontrolv1.PriorityLevelEnablement{
			flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited}))
	}
	return errs
}

func validateShares(shares, lendable *int32, at *field.Path) (errs field.ErrorList) {
	if n := deref(shares); n < 0 {
		errs = append(errs, field.Invalid(at.Child("nominalConcurrencyShares"), n, "must be a non-negative integer"))
	}
	if n := deref(lendable); n < 0 || n > 100 {
		errs = append(errs, field.Invalid(at.Child("lendablePercent"), n, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) field.ErrorList {
	errs := validateShares(l.NominalConcurrencyShares, l.LendablePercent, at)
	if n := l.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	at = at.Child("limitResponse")
	q := l.LimitResponse.Queuing
	switch l.LimitResponse.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if q != nil {
			errs = append(errs, field.Forbidden(at.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if q == nil {
			return append(errs, field.Required(at.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		}
		errs = append(errs, validateQueuing(q, at.Child("queuing"))...)
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), l.LimitResponse.Type, []flowcontrolv1.LimitResponseType{
			flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject}))
	}
	return errs
}

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, at *field.Path) (errs field.ErrorList) {
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	switch {
	case q.Queues <= 0:
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, "must be positive"))
	case q.Queues > maxQueues:
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(at.Child("handSize"), q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(at.Child("handSize"), q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	}
	return errs
}
