package kinds

import (
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// FlowSchemas is the kind FlowSchema of flowcontrol.apiserver.k8s.io/v1.
func FlowSchemas() Strategy[*flowcontrolv1.FlowSchema] {
	return Strategy[*flowcontrolv1.FlowSchema]{
		Resource:       api.FlowSchemas,
		Default:        func(f *flowcontrolv1.FlowSchema) { or(&f.Spec.MatchingPrecedence, defaultPrecedence) },
		Create:         func(f *flowcontrolv1.FlowSchema) { f.Status = flowcontrolv1.FlowSchemaStatus{} },
		Validate:       validateFlowSchema,
		ValidateUpdate: validateFlowSchemaUpdate,
		Spec:           func(f *flowcontrolv1.FlowSchema) any { return &f.Spec },
		Status:         func(f *flowcontrolv1.FlowSchema) any { return &f.Status },
		ValidateStatus: validateFlowConditions,
		Generation:     true,
		Columns:        columns("Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"),
		Row: func(f *flowcontrolv1.FlowSchema, now time.Time) []any {
			method, missing := "<none>", "?"
			if f.Spec.DistinguisherMethod != nil {
				method = string(f.Spec.DistinguisherMethod.Type)
			}
			for _, c := range f.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					missing = string(c.Status)
				}
			}
			return []any{f.Name, f.Spec.PriorityLevelConfiguration.Name, int64(f.Spec.MatchingPrecedence), method, age(f.CreationTimestamp, now), missing}
		},
	}
}

// PriorityLevelConfigurations is the kind PriorityLevelConfiguration of
// flowcontrol.apiserver.k8s.io/v1.
func PriorityLevelConfigurations() Strategy[*flowcontrolv1.PriorityLevelConfiguration] {
	return Strategy[*flowcontrolv1.PriorityLevelConfiguration]{
		Resource: api.PriorityLevelConfigurations,
		Default:  defaultPriorityLevel,
		Create: func(p *flowcontrolv1.PriorityLevelConfiguration) {
			p.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
		},
		Validate:       validatePriorityLevel,
		ValidateUpdate: func(p, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList { return validatePriorityLevel(p) },
		Spec:           func(p *flowcontrolv1.PriorityLevelConfiguration) any { return &p.Spec },
		Status:         func(p *flowcontrolv1.PriorityLevelConfiguration) any { return &p.Status },
		Generation:     true,
		Columns:        columns("Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"),
		Row: func(p *flowcontrolv1.PriorityLevelConfiguration, now time.Time) []any {
			var shares, queues, hand, length any = "<none>", "<none>", "<none>", "<none>"
			switch {
			case p.Spec.Limited != nil:
				shares = int64(deref(p.Spec.Limited.NominalConcurrencyShares))
				if q := p.Spec.Limited.LimitResponse.Queuing; q != nil {
					queues, hand, length = int64(q.Queues), int64(q.HandSize), int64(q.QueueLengthLimit)
				}
			case p.Spec.Exempt != nil:
				shares = int64(deref(p.Spec.Exempt.NominalConcurrencyShares))
			}
			return []any{p.Name, string(p.Spec.Type), shares, queues, hand, length, age(p.CreationTimestamp, now)}
		},
	}
}

// The defaults of flow control.
const (
	defaultPrecedence = 1000
	defaultShares     = 30
)

func defaultPriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) {
	if e := p.Spec.Exempt; e != nil {
		orPtr(&e.NominalConcurrencyShares, 0)
		orPtr(&e.LendablePercent, 0)
	}
	l := p.Spec.Limited
	if l == nil {
		return
	}
	orPtr(&l.NominalConcurrencyShares, defaultShares)
	orPtr(&l.LendablePercent, 0)
	if q := l.LimitResponse.Queuing; q != nil {
		or(&q.Queues, 64)
		or(&q.HandSize, 8)
		or(&q.QueueLengthLimit, 50)
	}
}

// The names of the mandatory objects.
const (
	exemptFlow   = flowcontrolv1.FlowSchemaNameExempt
	catchAllFlow = flowcontrolv1.FlowSchemaNameCatchAll
)

// MandatoryPriorityLevels are the levels that every cluster has: what is never
// held back, and what nothing else has taken.
func MandatoryPriorityLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{ObjectMeta: suggested(exemptFlow), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type:   flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: new(int32), LendablePercent: new(int32)}}},
		{ObjectMeta: suggested(catchAllFlow), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: new(int32(5)), LendablePercent: new(int32),
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}}}},
	}
}

// MandatoryFlowSchemas lead administrators to the one mandatory level and
// everybody else to the other, when no other schema takes them.
func MandatoryFlowSchemas() []*flowcontrolv1.FlowSchema {
	return []*flowcontrolv1.FlowSchema{
		{ObjectMeta: suggested(exemptFlow), Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: exemptFlow},
			MatchingPrecedence:         1, Rules: []flowcontrolv1.PolicyRulesWithSubjects{allOf(flowGroup("system:masters"))}}},
		{ObjectMeta: suggested(catchAllFlow), Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: catchAllFlow},
			MatchingPrecedence:         flowcontrolv1.FlowSchemaMaxMatchingPrecedence,
			DistinguisherMethod:        &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules:                      []flowcontrolv1.PolicyRulesWithSubjects{allOf(flowGroup("system:unauthenticated"), flowGroup("system:authenticated"))}}},
	}
}
