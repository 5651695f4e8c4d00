package auth

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// selecting takes the selectors of a question over into the attributes. What it
// cannot read of them narrows nothing, and is told.
func selecting(a *Attributes, r *authorizationv1.ResourceAttributes) (ignored []string) {
	told := func(name string, read int, failed bool) {
		switch {
		case failed && read > 0:
			ignored = append(ignored, "spec.resourceAttributes."+name+" partially ignored due to parse error")
		case failed:
			ignored = append(ignored, "spec.resourceAttributes."+name+" ignored due to parse error")
		}
	}
	if s := r.FieldSelector; s != nil {
		read, failed := fieldRequirements(s.Requirements)
		selector := fields.AndSelectors(read...)
		if s.RawSelector != "" {
			parsed, err := fields.ParseSelector(s.RawSelector)
			if failed = err != nil; !failed {
				selector = parsed
			}
		}
		told("fieldSelector", len(read), failed)
		if !selector.Empty() {
			a.Fields = selector
		}
	}
	if s := r.LabelSelector; s != nil {
		read, failed := labelRequirements(s.Requirements)
		selector := labels.NewSelector().Add(read...)
		if s.RawSelector != "" {
			parsed, err := labels.Parse(s.RawSelector)
			if failed = err != nil; !failed {
				selector = parsed
			}
		}
		told("labelSelector", len(read), failed)
		if !selector.Empty() {
			a.Labels = selector
		}
	}
	return ignored
}

// fieldRequirements are those that a field selector can say.
func fieldRequirements(all []metav1.FieldSelectorRequirement) (read []fields.Selector, failed bool) {
	for _, one := range all {
		switch {
		case len(one.Values) == 1 && one.Operator == metav1.FieldSelectorOpIn:
			read = append(read, fields.OneTermEqualSelector(one.Key, one.Values[0]))
		case len(one.Values) == 1 && one.Operator == metav1.FieldSelectorOpNotIn:
			read = append(read, fields.OneTermNotEqualSelector(one.Key, one.Values[0]))
		default:
			failed = true
		}
	}
	return read, failed
}

func labelRequirements(all []metav1.LabelSelectorRequirement) (read labels.Requirements, failed bool) {
	operators := map[metav1.LabelSelectorOperator]selection.Operator{metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist}
	for _, one := range all {
		requirement, err := labels.NewRequirement(one.Key, operators[one.Operator], one.Values)
		if err != nil {
			failed = true
			continue
		}
		read = append(read, *requirement)
	}
	return read, failed
}
