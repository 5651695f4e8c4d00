package kinds

import (
	"fmt"
	"math"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The bounds of a priority level: of its queues, and of how many bits of a hash
// a hand of them takes.
const (
	maxQueues   = 10 * 1000 * 1000
	maxHandBits = 60
)

func validateFlowSchema(f *flowcontrolv1.FlowSchema) (errs field.ErrorList) {
	spec, at := &f.Spec, field.NewPath("spec")
	switch n := spec.MatchingPrecedence; {
	case n < 1:
		errs = append(errs, field.Invalid(at.Child("matchingPrecedence"), n, "must be a positive value"))
	case n > flowcontrolv1.FlowSchemaMaxMatchingPrecedence:
		errs = append(errs, field.Invalid(at.Child("matchingPrecedence"), n, fmt.Sprintf("must not be greater than %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	case n == 1 && f.Name != exemptFlow:
		errs = append(errs, field.Invalid(at.Child("matchingPrecedence"), n, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if m := spec.DistinguisherMethod; m != nil && m.Type != flowcontrolv1.FlowDistinguisherMethodByNamespaceType && m.Type != flowcontrolv1.FlowDistinguisherMethodByUserType {
		errs = append(errs, field.NotSupported(at.Child("distinguisherMethod", "type"), any(hubValue{m}),
			[]string{string(flowcontrolv1.FlowDistinguisherMethodByNamespaceType), string(flowcontrolv1.FlowDistinguisherMethodByUserType)}))
	}
	level := at.Child("priorityLevelConfiguration", "name")
	errs = append(errs, required(spec.PriorityLevelConfiguration.Name, level, "must reference a priority level")...)
	errs = append(errs, validateName(spec.PriorityLevelConfiguration.Name, level)...)
	for i := range spec.Rules {
		errs = append(errs, validateFlowRule(&spec.Rules[i], at.Child("rules").Index(i))...)
	}
	for _, known := range MandatoryFlowSchemas() {
		if known.Name == f.Name && !apiequality.Semantic.DeepEqual(known.Spec, *spec) {
			errs = append(errs, field.Invalid(at, hubValue{spec}, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name)))
		}
	}
	return append(errs, validateFlowConditions(f, nil)...)
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
		errs = append(errs, someVerbs(rule.Verbs, at.Child("verbs"))...)
		errs = append(errs, some(rule.APIGroups, "resource rules must supply at least one api group", "api groups", at.Child("apiGroups"))...)
		errs = append(errs, some(rule.Resources, "resource rules must supply at least one resource", "resources", at.Child("resources"))...)
		if len(rule.Namespaces) == 0 && !rule.ClusterScope {
			errs = append(errs, field.Required(at.Child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace"))
		} else if len(rule.Namespaces) > 1 && slices.Contains(rule.Namespaces, "*") {
			errs = append(errs, field.Invalid(at.Child("namespaces"), rule.Namespaces, "if '*' is present, must not specify other namespaces"))
		} else if !slices.Contains(rule.Namespaces, "*") {
			for j, name := range rule.Namespaces {
				for _, text := range apivalidation.ValidateNamespaceName(name, false) {
					errs = append(errs, field.Invalid(at.Child("namespaces").Index(j), name, "each member of this list must be '*' or a DNS-1123 label; "+text))
				}
			}
		}
	}
	for i, rule := range r.NonResourceRules {
		at := at.Child("nonResourceRules").Index(i)
		errs = append(errs, someVerbs(rule.Verbs, at.Child("verbs"))...)
		errs = append(errs, some(rule.NonResourceURLs, "nonResourceURLs must contain at least one value", "non-resource URLs", at.Child("nonResourceURLs"))...)
		for j, url := range rule.NonResourceURLs {
			at := at.Child("nonResourceURLs").Index(j)
			switch {
			case slices.Contains(rule.NonResourceURLs, "*"):
			case url == "":
				errs = append(errs, field.Invalid(at, url, "must not be empty"))
			case !strings.HasPrefix(url, "/"):
				errs = append(errs, field.Invalid(at, url, "must start with slash"))
			case strings.Contains(url, " "):
				errs = append(errs, field.Invalid(at, url, "must not contain white-space"))
			case strings.Contains(url, "//"):
				errs = append(errs, field.Invalid(at, url, "must not contain double slash"))
			case strings.Contains(strings.TrimSuffix(url, "/*"), "*"):
				errs = append(errs, field.Invalid(at, url, "wildcard can only do suffix matching"))
			}
		}
	}
	return errs
}

// flowVerbs are what a rule of flow control may be about.
var flowVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}

func someVerbs(verbs []string, at *field.Path) field.ErrorList {
	errs := some(verbs, "verbs must contain at least one value", "verbs", at)
	unknown := func(verb string) bool { return !slices.Contains(flowVerbs, verb) }
	if len(errs) == 0 && !slices.Contains(verbs, "*") && slices.ContainsFunc(verbs, unknown) {
		errs = append(errs, field.NotSupported(at, any(verbs), flowVerbs))
	}
	return errs
}

// validateFlowConditions wants the conditions of a status to have types of
// their own.
func validateFlowConditions(f, _ *flowcontrolv1.FlowSchema) (errs field.ErrorList) {
	seen := map[flowcontrolv1.FlowSchemaConditionType]bool{}
	for i, c := range f.Status.Conditions {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(at, c.Type))
		}
		seen[c.Type] = true
		errs = append(errs, required(c.Type, at, "")...)
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
	return append(validateFlowSubjectName(s, at), errs...)
}

func validateFlowSubjectName(s *flowcontrolv1.Subject, at *field.Path) (errs field.ErrorList) {
	switch {
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		name, namespace := s.ServiceAccount.Name, s.ServiceAccount.Namespace
		at := at.Child("serviceAccount")
		if errs = required(name, at.Child("name"), ""); name != "" && name != flowcontrolv1.NameAll {
			errs = append(errs, invalid(at.Child("name"), name, apivalidation.ValidateServiceAccountName(name, false))...)
		}
		errs = append(errs, required(namespace, at.Child("namespace"), "must specify namespace for service account")...)
		if namespace != "" {
			errs = append(errs, invalid(at.Child("namespace"), namespace, apivalidation.ValidateNamespaceName(namespace, false))...)
		}
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		errs = required(s.User.Name, at.Child("user", "name"), "")
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		errs = required(s.Group.Name, at.Child("group", "name"), "")
	}
	return errs
}

// validatePriorityLevel checks what Kubernetes checks by hand first, and then
// the rules that it declares at the types: which part goes with which type.
func validatePriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) (errs field.ErrorList) {
	spec, at := &p.Spec, field.NewPath("spec")
	if (p.Name == exemptFlow) != (spec.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(at.Child("type"), spec.Type, "must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	var declared field.ErrorList
	switch {
	case spec.Type == flowcontrolv1.PriorityLevelEnablementExempt:
		if e := spec.Exempt; e != nil {
			errs = append(errs, validateShares(e.NominalConcurrencyShares, e.LendablePercent, at.Child("exempt"))...)
		}
	case spec.Type == flowcontrolv1.PriorityLevelEnablementLimited && spec.Limited != nil:
		var more field.ErrorList
		more, declared = validateLimited(spec.Limited, at.Child("limited"))
		errs = append(errs, more...)
	case spec.Type == flowcontrolv1.PriorityLevelEnablementLimited:
		declared = field.ErrorList{field.Required(at.Child("limited"), "")}
	case spec.Type == "":
		declared = field.ErrorList{field.Required(at.Child("type"), "")}
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), spec.Type, []flowcontrolv1.PriorityLevelEnablement{
			flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited}))
	}
	errs = append(errs, validateMandatoryLevel(p, at)...)
	if spec.Exempt != nil && spec.Type != flowcontrolv1.PriorityLevelEnablementExempt {
		errs = append(errs, field.Forbidden(at.Child("exempt"), ""))
	}
	if spec.Limited != nil && spec.Type != flowcontrolv1.PriorityLevelEnablementLimited {
		errs = append(errs, field.Forbidden(at.Child("limited"), ""))
	}
	return append(errs, declared...)
}

// validateMandatoryLevel keeps the two levels that are always there what they
// are, but for the shares of the exempt one.
func validateMandatoryLevel(p *flowcontrolv1.PriorityLevelConfiguration, at *field.Path) field.ErrorList {
	for _, known := range MandatoryPriorityLevels() {
		if known.Name != p.Name {
			continue
		}
		have, except := *p.Spec.DeepCopy(), ""
		if p.Name == exemptFlow {
			have.Exempt, except = known.Spec.Exempt, " except the 'spec.exempt' field"
		}
		if !apiequality.Semantic.DeepEqual(known.Spec, have) {
			return field.ErrorList{field.Invalid(at, hubValue{p.Spec}, fmt.Sprintf("spec of '%s'%s must equal the fixed value", p.Name, except))}
		}
	}
	return nil
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

// validateLimited returns the errors of rules that are declared at the type
// apart: they come last.
func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) (errs, declared field.ErrorList) {
	errs = validateShares(l.NominalConcurrencyShares, nil, at)
	response, q := at.Child("limitResponse"), l.LimitResponse.Queuing
	if q != nil && l.LimitResponse.Type != flowcontrolv1.LimitResponseTypeQueue {
		declared = append(declared, field.Forbidden(response.Child("queuing"), ""))
	}
	switch l.LimitResponse.Type {
	case flowcontrolv1.LimitResponseTypeReject:
	case flowcontrolv1.LimitResponseTypeQueue:
		if q == nil {
			declared = append(declared, field.Required(response.Child("queuing"), ""))
		} else {
			errs = append(errs, validateQueuing(q, response.Child("queuing"))...)
		}
	case "":
		declared = append(declared, field.Required(response.Child("type"), ""))
	default:
		errs = append(errs, field.NotSupported(response.Child("type"), l.LimitResponse.Type, []flowcontrolv1.LimitResponseType{
			flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject}))
	}
	errs = append(errs, validateShares(nil, l.LendablePercent, at)...)
	if n := l.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	return errs, declared
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
	default:
		if bits := math.Ceil(math.Log2(float64(q.Queues)) * float64(q.HandSize)); bits > maxHandBits {
			errs = append(errs, field.Invalid(at.Child("handSize"), q.HandSize, fmt.Sprintf(
				"required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, maxHandBits)))
		}
	}
	return errs
}
