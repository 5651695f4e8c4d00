package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// nodeMatch is a required node affinity and node selector, prepared to be asked
// about many nodes without making anything
// (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity).
type nodeMatch struct {
	selector map[string]string
	terms    []nodeTerm // one must match
	anyTerm  bool       // there are no terms: all nodes match
}

// nodeTerm is a selector term. One that says nothing matches no node, and so
// does one that does not parse, which admission has refused.
type nodeTerm struct {
	labels labels.Requirements
	names  []nameRule
	never  bool
}

// nameRule is a requirement about metadata.name.
type nameRule struct {
	name string
	not  bool
}

func newNodeMatch(selector map[string]string, required *corev1.NodeSelector) *nodeMatch {
	m := &nodeMatch{selector: selector, anyTerm: required == nil}
	if required == nil {
		return m
	}
	for i := range required.NodeSelectorTerms {
		m.terms = append(m.terms, newNodeTerm(&required.NodeSelectorTerms[i]))
	}
	return m
}

var nodeOperators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
	corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
}

func newNodeTerm(t *corev1.NodeSelectorTerm) nodeTerm {
	out := nodeTerm{never: len(t.MatchExpressions)+len(t.MatchFields) == 0}
	for _, e := range t.MatchExpressions {
		r, err := labels.NewRequirement(e.Key, nodeOperators[e.Operator], e.Values)
		if err != nil {
			return nodeTerm{never: true}
		}
		out.labels = append(out.labels, *r)
	}
	for _, f := range t.MatchFields {
		known := f.Operator == corev1.NodeSelectorOpIn || f.Operator == corev1.NodeSelectorOpNotIn
		if f.Key != metav1.ObjectNameField || len(f.Values) != 1 || !known {
			return nodeTerm{never: true}
		}
		out.names = append(out.names, nameRule{f.Values[0], f.Operator == corev1.NodeSelectorOpNotIn})
	}
	return out
}

// matches says whether the node is one of those that are asked for.
func (m *nodeMatch) matches(node *corev1.Node) bool {
	for key, value := range m.selector {
		if got, ok := node.Labels[key]; !ok || got != value {
			return false
		}
	}
	return m.anyTerm || slices.ContainsFunc(m.terms, func(t nodeTerm) bool { return t.matches(node) })
}

func (t *nodeTerm) matches(node *corev1.Node) bool {
	if t.never {
		return false
	}
	for i := range t.labels {
		if !t.labels[i].Matches(labels.Set(node.Labels)) {
			return false
		}
	}
	for _, rule := range t.names {
		if (rule.name == node.Name) == rule.not {
			return false
		}
	}
	return true
}
