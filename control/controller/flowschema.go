package controller

import (
	"context"
	"fmt"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// newFlowSchemaStatus says of each FlowSchema, in the condition Dangling,
// whether its priority level is there; the API server passes over one whose
// level is not.
func newFlowSchemaStatus(cfg Config) runner {
	schemas, levels := cfg.Informers.For(api.FlowSchemas), cfg.Informers.For(api.PriorityLevelConfigurations)
	loop := cfg.loop("flowschema-status", 1, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, _ := schemas.Get(key)
		schema, ok := obj.(*flowcontrolv1.FlowSchema)
		if !ok || schema.DeletionTimestamp != nil {
			return 0, nil
		}
		_, found := levels.Get(api.PriorityLevelConfigurations.Key("", schema.Spec.PriorityLevelConfiguration.Name))
		conditions, changes := withDangling(schema, found, metav1.NewTime(cfg.Clock()))
		if !changes {
			return 0, nil
		}
		changed := schema.DeepCopy()
		changed.Status.Conditions = conditions
		_, err := cfg.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return 0, nil // a change of the schema comes back as an event
		}
		return 0, fmt.Errorf("write the status of %s: %w", key, err)
	}))
	schemas.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.FlowSchemas.KeyOf(new))
		}
	})
	levels.OnChange(func(old, new api.Object) {
		if old != nil && new != nil {
			return // it was there and still is
		}
		for _, schema := range schemas.List("") {
			loop.Enqueue(api.FlowSchemas.KeyOf(schema))
		}
	})
	return loop
}

// withDangling is a schema's conditions with the one that it should have, and
// whether that is news.
func withDangling(schema *flowcontrolv1.FlowSchema, found bool, now metav1.Time) ([]flowcontrolv1.FlowSchemaCondition, bool) {
	name := schema.Spec.PriorityLevelConfiguration.Name
	want := flowcontrolv1.FlowSchemaCondition{Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionTrue,
		LastTransitionTime: now, Reason: "NotFound",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", name)}
	if found {
		want.Status, want.Reason = flowcontrolv1.ConditionFalse, "Found"
		want.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", name)
	}
	var conditions []flowcontrolv1.FlowSchemaCondition
	for _, c := range schema.Status.Conditions {
		if c.Type != want.Type {
			conditions = append(conditions, c)
			continue
		}
		if c.Status == want.Status && c.Reason == want.Reason && c.Message == want.Message {
			return nil, false
		}
		if c.Status == want.Status {
			want.LastTransitionTime = c.LastTransitionTime
		}
	}
	return append(conditions, want), true
}
