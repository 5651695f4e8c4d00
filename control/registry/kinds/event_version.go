package kinds

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"wherry.dev/wherry/control/api"
)

// eventVersion serves the same Events as events.k8s.io/v1, which calls most
// fields otherwise.
func eventVersion() Version[*corev1.Event] {
	return Version[*corev1.Event]{
		Resource: api.EventsV1, FromHub: eventToV1, ToHub: eventFromV1,
		Fields: map[string]string{
			"reason": "reason", "type": "type", "reportingController": "reportingComponent",
			"regarding.kind": "involvedObject.kind", "regarding.namespace": "involvedObject.namespace",
			"regarding.name": "involvedObject.name", "regarding.uid": "involvedObject.uid",
			"regarding.apiVersion": "involvedObject.apiVersion", "regarding.resourceVersion": "involvedObject.resourceVersion",
			"regarding.fieldPath": "involvedObject.fieldPath",
		},
	}
}

func eventToV1(_ context.Context, e *corev1.Event) (api.Object, error) {
	out := &eventsv1.Event{
		ObjectMeta: *e.ObjectMeta.DeepCopy(), EventTime: e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, Regarding: e.InvolvedObject, Related: e.Related.DeepCopy(), Note: e.Message, Type: e.Type,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp,
		DeprecatedCount: e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

func eventFromV1(_ context.Context, obj api.Object) (*corev1.Event, error) {
	e, ok := obj.(*eventsv1.Event)
	if !ok {
		return nil, fmt.Errorf("%T is no events.k8s.io/v1 Event", obj)
	}
	out := &corev1.Event{
		ObjectMeta: *e.ObjectMeta.DeepCopy(), EventTime: e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, InvolvedObject: e.Regarding, Related: e.Related.DeepCopy(), Message: e.Note, Type: e.Type,
		Source: e.DeprecatedSource, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp,
		Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}
