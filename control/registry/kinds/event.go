package kinds

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Events is the kind Event.
func Events() Strategy[*corev1.Event] {
	return Strategy[*corev1.Event]{
		Resource:       api.Events,
		Name:           path.ValidatePathSegmentName,
		AnyFinalizer:   true,
		Validate:       func(e *corev1.Event) field.ErrorList { return validateEvent(e, "reportingComponent") },
		ValidateUpdate: func(e, _ *corev1.Event) field.ErrorList { return validateEvent(e, "reportingComponent") },
		Fields:         eventFields(),
		Versions:       []Version[*corev1.Event]{eventVersion()},
		CreateOnUpdate: true,
		NoDependents:   true,
		Fleeting:       true,
		Columns: columns("Last Seen", "Type", "Reason", "Object", "+Subobject", "+Source", "Message",
			"+First Seen", "+Count", "+Name"),
		Row: eventRow,
	}
}

// The limits of events that say when they happened.
const (
	maxEventText = 128
	maxEventNote = 1024
)

// validateEvent checks where an event lies, and of an event of the newer form,
// which has an eventTime, everything else. reporter is the path of who reports.
func validateEvent(e *corev1.Event, reporter string) (errs field.ErrorList) {
	place := e.InvolvedObject.Namespace
	misplaced := field.ErrorList{field.Invalid(field.NewPath("involvedObject", "namespace"), place, "does not match event.namespace")}
	if e.EventTime.IsZero() {
		if e.Namespace != place && (place != "" || e.Namespace != metav1.NamespaceDefault) {
			return misplaced
		}
		return nil
	}
	if place == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
		errs = misplaced
	}
	errs = append(errs, required(e.ReportingController, field.NewPath(reporter), "")...)
	errs = append(errs, invalid(field.NewPath(reporter), e.ReportingController, validation.IsQualifiedName(e.ReportingController))...)
	for _, text := range []struct{ name, value string }{{"reportingInstance", e.ReportingInstance}, {"action", e.Action}, {"reason", e.Reason}} {
		errs = append(errs, required(text.value, field.NewPath(text.name), "")...)
		if len(text.value) > maxEventText {
			errs = append(errs, field.Invalid(field.NewPath(text.name), "", fmt.Sprintf("can have at most %v characters", maxEventText)))
		}
	}
	if len(e.Message) > maxEventNote {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", maxEventNote)))
	}
	return errs
}

// eventFields are the labels by which kubectl describe finds events.
func eventFields() map[string]func(*corev1.Event) string {
	return map[string]func(*corev1.Event) string{
		"involvedObject.kind":            func(e *corev1.Event) string { return e.InvolvedObject.Kind },
		"involvedObject.namespace":       func(e *corev1.Event) string { return e.InvolvedObject.Namespace },
		"involvedObject.name":            func(e *corev1.Event) string { return e.InvolvedObject.Name },
		"involvedObject.uid":             func(e *corev1.Event) string { return string(e.InvolvedObject.UID) },
		"involvedObject.apiVersion":      func(e *corev1.Event) string { return e.InvolvedObject.APIVersion },
		"involvedObject.resourceVersion": func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion },
		"involvedObject.fieldPath":       func(e *corev1.Event) string { return e.InvolvedObject.FieldPath },
		"reason":                         func(e *corev1.Event) string { return e.Reason },
		"reportingComponent":             func(e *corev1.Event) string { return e.ReportingController },
		"source":                         eventSource,
		"type":                           func(e *corev1.Event) string { return e.Type },
	}
}

func eventSource(e *corev1.Event) string {
	if e.Source.Component != "" {
		return e.Source.Component
	}
	return e.ReportingController
}

// EventSeen is when an event was first and last seen, however it says so.
func EventSeen(e *corev1.Event) (first, last metav1.Time) {
	first = e.FirstTimestamp
	if first.IsZero() {
		first = metav1.NewTime(e.EventTime.Time)
	}
	last = e.LastTimestamp
	if e.Series != nil {
		last = metav1.NewTime(e.Series.LastObservedTime.Time)
	}
	if last.IsZero() {
		last = first
	}
	return first, last
}

func eventRow(e *corev1.Event, now time.Time) []any {
	first, last := EventSeen(e)
	count := int64(e.Count)
	if e.Series != nil {
		count = int64(e.Series.Count)
	} else if count == 0 {
		count = 1
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	if host := e.Source.Host; host != "" {
		source += ", " + host
	} else if e.Source.Component == "" && e.ReportingInstance != "" {
		source += ", " + e.ReportingInstance
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{age(last, now), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), age(first, now), count, e.Name}
}
