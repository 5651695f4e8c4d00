package kinds

import (
	"fmt"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"

	"wherry.dev/wherry/control/api"
)

// Foreign are the columns of what subresources speak: a Scale, and what
// has no columns of its own (a Binding).
func Foreign(obj api.Object) ([]metav1.TableColumnDefinition, func(api.Object, time.Time) []any) {
	if _, ok := obj.(*autoscalingv1.Scale); ok {
		return columns("Name", "#Desired", "#Available", "Age"), func(obj api.Object, now time.Time) []any {
			s := obj.(*autoscalingv1.Scale)
			return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), age(s.CreationTimestamp, now)}
		}
	}
	return columns("Name", "Age"), func(obj api.Object, now time.Time) []any {
		return []any{obj.GetName(), age(obj.GetCreationTimestamp(), now)}
	}
}

// Plain are the columns of kinds without any of their own.
func Plain() ([]metav1.TableColumnDefinition, func(api.Object, time.Time) []any) {
	defs := columns("Name", "Created At")
	defs[1].Type = "date"
	return defs, func(obj api.Object, _ time.Time) []any {
		return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	}
}

// columns makes definitions of string columns, Name first. A leading + gives
// the column priority 1 (-o wide), a leading # makes it a number, a leading !
// a truth value.
func columns(names ...string) []metav1.TableColumnDefinition {
	defs := make([]metav1.TableColumnDefinition, 0, len(names))
	for _, name := range names {
		def := metav1.TableColumnDefinition{Type: "string"}
		if rest, ok := strings.CutPrefix(name, "+"); ok {
			def.Priority, name = 1, rest
		}
		if rest, ok := strings.CutPrefix(name, "#"); ok {
			def.Type, name = "integer", rest
		}
		if rest, ok := strings.CutPrefix(name, "!"); ok {
			def.Type, name = "boolean", rest
		}
		if name == "Name" {
			def.Format = "name"
		}
		def.Name = name
		def.Description = columnHelp[name]
		defs = append(defs, def)
	}
	return defs
}

// nameColumn says of a column that it holds a name.
func nameColumn(defs []metav1.TableColumnDefinition, column int) []metav1.TableColumnDefinition {
	defs[column].Format = "name"
	return defs
}

// columnHelp describes the columns that all kinds share.
var columnHelp = map[string]string{
	"Name":       metav1.ObjectMeta{}.SwaggerDoc()["name"],
	"Age":        metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
	"Created At": metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
}

// age renders the time since t as kubectl does: "5m", "<unknown>".
func age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func none(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

// selectorText renders a label selector for a column.
func selectorText(s *metav1.LabelSelector) string { return metav1.FormatLabelSelector(s) }

// labelsText renders a map of labels as "a=b,c=d".
func labelsText(m map[string]string) string { return none(labels.FormatLabels(m)) }

// firstOf renders at most n of parts and how many more there are.
func firstOf(parts []string, n int) string {
	if len(parts) == 0 {
		return "<none>"
	}
	if len(parts) <= n {
		return strings.Join(parts, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(parts[:n], ","), len(parts)-n)
}

// boolText renders an optional truth value.
func boolText(b *bool) string {
	switch {
	case b == nil:
		return "<unset>"
	case *b:
		return "True"
	}
	return "False"
}
