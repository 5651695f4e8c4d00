package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
)

// podSet is a description of pods: those of some namespaces that a selector
// picks, or those of one owner.
type podSet struct {
	id         string          // equal sets have equal ids
	namespaces []string        // sorted
	ofSpaces   labels.Selector // also the namespaces with these labels; nil: none
	selector   labels.Selector // nil: whatever their labels
	owner      types.UID       // their controlling owner; "": any or none
}

// newPodSet makes the set of a selector in namespaces. A selector that does not
// parse picks nothing: admission has refused it, and here it must not widen.
func newPodSet(namespaces []string, ofSpaces, selector *metav1.LabelSelector) *podSet {
	set := &podSet{namespaces: slices.Sorted(slices.Values(namespaces)), selector: parsed(selector)}
	set.namespaces = slices.Compact(set.namespaces)
	spaces := ""
	if ofSpaces != nil {
		set.ofSpaces = parsed(ofSpaces)
		spaces = "{" + set.ofSpaces.String() + "}"
		if set.ofSpaces.Empty() {
			spaces, set.namespaces = "*", nil // all of them
		}
	}
	set.id = strings.Join(set.namespaces, ",") + "|" + spaces + "|" + set.selector.String()
	if set.selector.String() == "" && !set.selector.Empty() {
		set.id += "|nothing"
	}
	return set
}

func parsed(selector *metav1.LabelSelector) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

// ownedSet is the set of the pods that an owner controls.
func ownedSet(namespace string, owner types.UID) *podSet {
	return &podSet{id: namespace + "||@" + string(owner), namespaces: []string{namespace}, owner: owner}
}

// has says whether a pod is in the set. spaces are the labels of namespaces.
func (s *podSet) has(r *request, spaces map[string]labels.Set) bool {
	if s.owner != "" {
		return r.owner == s.owner && r.pod.Namespace == s.namespaces[0]
	}
	if !slices.Contains(s.namespaces, r.pod.Namespace) &&
		(s.ofSpaces == nil || !s.ofSpaces.Matches(spaces[r.pod.Namespace])) {
		return false
	}
	return s.selector.Matches(labels.Set(r.pod.Labels))
}

// setKey is where a set is found by what its pods have in common.
type setKey struct {
	namespace string // "": of several
	label     string // "": the set asks for no certain label
	value     string
	owner     types.UID
}

// key returns the most selective thing that all pods of the set have.
func (s *podSet) key() setKey {
	if s.owner != "" {
		return setKey{owner: s.owner}
	}
	k := setKey{}
	if len(s.namespaces) == 1 && s.ofSpaces == nil {
		k.namespace = s.namespaces[0]
	}
	requirements, _ := s.selector.Requirements()
	for _, r := range requirements {
		if op := r.Operator(); op != selection.In && op != selection.Equals && op != selection.DoubleEquals {
			continue
		}
		if values := r.ValuesUnsorted(); len(values) == 1 {
			k.label, k.value = r.Key(), values[0]
			break
		}
	}
	return k
}

// setIndex finds what is about sets that a pod may be in, without looking at
// all of them.
type setIndex[T any] struct{ by map[setKey][]T }

func (x *setIndex[T]) add(s *podSet, one T) {
	if x.by == nil {
		x.by = map[setKey][]T{}
	}
	k := s.key()
	x.by[k] = append(x.by[k], one)
}

func (x *setIndex[T]) remove(s *podSet, is func(T) bool) {
	k := s.key()
	if rest := slices.DeleteFunc(x.by[k], is); len(rest) > 0 {
		x.by[k] = rest
	} else {
		delete(x.by, k)
	}
}

// candidates calls f with everything whose set may have the pod.
func (x *setIndex[T]) candidates(r *request, f func(T)) {
	if len(x.by) == 0 {
		return
	}
	at := func(k setKey) {
		for _, one := range x.by[k] {
			f(one)
		}
	}
	if r.owner != "" {
		at(setKey{owner: r.owner})
	}
	space := r.pod.Namespace
	at(setKey{namespace: space})
	at(setKey{})
	for label, value := range r.pod.Labels {
		at(setKey{namespace: space, label: label, value: value})
		at(setKey{label: label, value: value})
	}
}

// term is one rule about other pods: the pods it is about, and the node label
// whose values are the domains.
type term struct {
	id       string
	who      *podSet
	topology string
	weight   int64 // of a preference; negative: keep away
}

func newTerm(pod *corev1.Pod, t *corev1.PodAffinityTerm, weight int64) *term {
	namespaces := t.Namespaces
	if len(namespaces) == 0 && t.NamespaceSelector == nil {
		namespaces = []string{pod.Namespace}
	}
	selector := narrowed(pod, t.LabelSelector, t.MatchLabelKeys, t.MismatchLabelKeys)
	one := &term{who: newPodSet(namespaces, t.NamespaceSelector, selector), topology: t.TopologyKey, weight: weight}
	one.id = one.topology + "|" + one.who.id
	return one
}

// narrowed adds the pod's own values of keys to a selector, and excludes those
// of others (matchLabelKeys, mismatchLabelKeys). Saying it twice changes
// nothing: the API may have done it at admission. Keys that the pod has no
// label for are ignored.
func narrowed(pod *corev1.Pod, selector *metav1.LabelSelector, same, other []string) *metav1.LabelSelector {
	if selector == nil || len(same)+len(other) == 0 {
		return selector
	}
	selector = selector.DeepCopy()
	add := func(keys []string, operator metav1.LabelSelectorOperator) {
		for _, key := range keys {
			value, ok := pod.Labels[key]
			said := slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
				return r.Key == key && r.Operator == operator && slices.Equal(r.Values, []string{value})
			})
			if ok && !said {
				selector.MatchExpressions = append(selector.MatchExpressions,
					metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}})
			}
		}
	}
	add(same, metav1.LabelSelectorOpIn)
	add(other, metav1.LabelSelectorOpNotIn)
	return selector
}
