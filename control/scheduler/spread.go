package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// spreadRule is one topology spread constraint of a pod
// (https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/).
type spreadRule struct {
	who        *podSet
	topology   string
	maxSkew    int32
	minDomains int32 // 0: not said
	hard       bool  // DoNotSchedule
	// Which nodes count besides those that have the labels of all rules.
	byAffinity, byTaints bool
	implied              bool // from the cluster's defaults: nodes without the label count too
}

func spreadRules(pod *corev1.Pod, constraints []corev1.TopologySpreadConstraint) []spreadRule {
	var out []spreadRule
	for i := range constraints {
		c := &constraints[i]
		selector := narrowed(pod, c.LabelSelector, c.MatchLabelKeys, nil)
		out = append(out, newSpreadRule(c, newPodSet([]string{pod.Namespace}, nil, selector)))
	}
	return out
}

func newSpreadRule(c *corev1.TopologySpreadConstraint, who *podSet) spreadRule {
	rule := spreadRule{who: who, topology: c.TopologyKey, maxSkew: c.MaxSkew,
		hard:       c.WhenUnsatisfiable == corev1.DoNotSchedule,
		byAffinity: c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor,
		byTaints:   c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
	}
	if c.MinDomains != nil {
		rule.minDomains = *c.MinDomains
	}
	return rule
}

// spreadView is a rule with the counts that it is judged by.
type spreadView struct {
	rule *spreadRule
	of   *tally
	self int32   // 1 when the pod counts itself
	log  float64 // weight of the rule's score: rules with many domains would drown the others
}

// spreadViews prepares the rules of one kind. In a region are the nodes that
// have the labels of all of them.
func (d *decision) spreadViews(rules []spreadRule, hard bool) []spreadView {
	var keys []string
	for i := range rules {
		if rules[i].hard == hard && !rules[i].implied {
			keys = append(keys, rules[i].topology)
		}
	}
	var out []spreadView
	for i := range rules {
		rule := &rules[i]
		if rule.hard != hard {
			continue
		}
		v := spreadView{rule: rule, of: d.snapshot.tally(rule.who, rule.topology, d.region(rule, keys), true)}
		if rule.who.has(d.request, d.snapshot.census.spaces) {
			v.self = 1
		}
		v.log = math.Log(float64(len(v.of.domains) + 2))
		out = append(out, v)
	}
	return out
}

// region is where a rule of the pod counts pods.
func (d *decision) region(rule *spreadRule, keys []string) *region {
	r := d.request
	affinity, taints := rule.byAffinity && r.affinity != nil, rule.byTaints
	others := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == rule.topology })
	if !affinity && !taints && len(others) == 0 {
		return anywhere
	}
	var id strings.Builder
	id.WriteString(strings.Join(others, ","))
	if affinity {
		fmt.Fprintf(&id, "|%v", r.pod.Spec.NodeSelector)
		if a := r.pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
			id.WriteString(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.String())
		}
	}
	if taints {
		fmt.Fprintf(&id, "|taints%v", r.pod.Spec.Tolerations)
	}
	return &region{id: id.String(), admits: func(n *nodeState) bool {
		for _, key := range others {
			if _, ok := n.node.Labels[key]; !ok {
				return false
			}
		}
		return (!affinity || r.affinity.matches(n.node)) &&
			(!taints || untolerated(r.pod, n.hard) == nil && (!n.node.Spec.Unschedulable || toleratesCordon(r.pod)))
	}}
}

// skewed says whether one more pod on the node would break the rule.
func (v *spreadView) skewed(n *nodeState) bool {
	value, labelled := n.node.Labels[v.rule.topology]
	if !labelled {
		return true
	}
	var pods int32 // a node outside of the region has a domain of no pods
	if d := v.of.domains[value]; d != nil {
		pods = d.pods
	}
	lowest := int32(0)
	if len(v.of.domains) > 0 && int32(len(v.of.domains)) >= v.rule.minDomains {
		lowest = v.of.least.min
	}
	return pods+v.self-lowest > v.rule.maxSkew
}

func (v *spreadView) unlabelled(n *nodeState) bool {
	_, ok := n.node.Labels[v.rule.topology]
	return !ok
}

// spreadCost is how crowded the node's domains are; counts is false for a node
// that does not take part.
func (d *decision) spreadCost(n *nodeState) (cost float64, counts bool) {
	for i := range d.soft {
		v := &d.soft[i]
		pods, known := v.of.at(n)
		if !known {
			if !v.rule.implied {
				return 0, false
			}
			continue
		}
		cost += float64(pods)*v.log + float64(v.rule.maxSkew-1)
	}
	return cost, true
}
