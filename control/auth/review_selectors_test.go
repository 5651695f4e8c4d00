package auth

import (
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSelectingReviews: what of a question's selectors reaches the authorizers,
// and what the answer says of the rest.
func TestSelectingReviews(t *testing.T) {
	field := func(key, operator string, values ...string) metav1.FieldSelectorRequirement {
		return metav1.FieldSelectorRequirement{Key: key, Operator: metav1.FieldSelectorOperator(operator), Values: values}
	}
	label := func(key, operator string, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: values}
	}
	const fieldsLost, labelsLost = "spec.resourceAttributes.fieldSelector ", "spec.resourceAttributes.labelSelector "
	for _, test := range []struct {
		name         string
		fields       authorizationv1.FieldSelectorAttributes
		labels       authorizationv1.LabelSelectorAttributes
		wantF, wantL string
		ignored      string
	}{
		{"raw", authorizationv1.FieldSelectorAttributes{RawSelector: "a=b"}, authorizationv1.LabelSelectorAttributes{RawSelector: "c in (d,e)"}, "a=b", "c in (d,e)", ""},
		{"requirements", authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{field("a", "In", "b"), field("c", "NotIn", "d")}},
			authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{label("e", "Exists"), label("f", "DoesNotExist")}}, "a=b,c!=d", "e,!f", ""},
		{"partly", authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{field("a", "In", "b"), field("c", "Exists")}},
			authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{label("e", "Foo"), label("f", "Exists")}}, "a=b", "f",
			fieldsLost + "partially ignored due to parse error; " + labelsLost + "partially ignored due to parse error"},
		{"not at all", authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{field("a", "In", "b", "c")}},
			authorizationv1.LabelSelectorAttributes{RawSelector: "=;"}, "", "",
			fieldsLost + "ignored due to parse error; " + labelsLost + "ignored due to parse error"},
	} {
		var a Attributes
		ignored := selecting(&a, &authorizationv1.ResourceAttributes{FieldSelector: &test.fields, LabelSelector: &test.labels})
		f, l := "", ""
		if a.Fields != nil {
			f = a.Fields.String()
		}
		if a.Labels != nil {
			l = a.Labels.String()
		}
		if f != test.wantF || l != test.wantL || strings.Join(ignored, "; ") != test.ignored {
			t.Errorf("%s: fields %q, labels %q, ignored %q", test.name, f, l, ignored)
		}
	}
}
