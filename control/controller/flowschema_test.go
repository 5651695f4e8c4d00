package controller

import (
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"wherry.dev/wherry/control/api"
)

// TestDanglingFlowSchemas: the condition follows the priority level as it comes
// and goes.
func TestDanglingFlowSchemas(t *testing.T) {
	which := func(cfg Config) []runner { return []runner{newFlowSchemaStatus(cfg)} }
	inBed(t, which, func(b *bed) {
		schema := &flowcontrolv1.FlowSchema{Spec: flowcontrolv1.FlowSchemaSpec{MatchingPrecedence: 500,
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "tiny"}}}
		schema.Name = "s"
		create(b, api.FlowSchemas, schema)
		is := func(name string, want flowcontrolv1.ConditionStatus, reason string) {
			t.Helper()
			b.settle()
			got, ok := get[*flowcontrolv1.FlowSchema](b, api.FlowSchemas.Key("", name))
			if !ok {
				t.Fatalf("%s is gone", name)
			}
			if c := got.Status.Conditions; len(c) != 1 || c[0].Type != flowcontrolv1.FlowSchemaConditionDangling || c[0].Status != want || c[0].Reason != reason {
				t.Errorf("%s: %+v, want Dangling %s %s", name, c, want, reason)
			}
		}
		is("s", flowcontrolv1.ConditionTrue, "NotFound")
		is("catch-all", flowcontrolv1.ConditionFalse, "Found")
		level := &flowcontrolv1.PriorityLevelConfiguration{Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}}}}
		level.Name = "tiny"
		create(b, api.PriorityLevelConfigurations, level)
		is("s", flowcontrolv1.ConditionFalse, "Found")
		if _, err := b.api.Delete(b.ctx, api.PriorityLevelConfigurations.Key("", "tiny"), api.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		is("s", flowcontrolv1.ConditionTrue, "NotFound")
	})
}
