package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// newRoleAggregation gives each ClusterRole with an aggregation rule the rules
// of the ClusterRoles that its selectors choose, in the order of their names.
// Whatever else is among its rules is overwritten.
func newRoleAggregation(cfg Config) runner {
	roles := cfg.Informers.For(api.ClusterRoles)
	loop := cfg.loop("clusterrole-aggregation", 2, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, _ := roles.Get(key)
		role, ok := obj.(*rbacv1.ClusterRole)
		if !ok || role.AggregationRule == nil || role.DeletionTimestamp != nil {
			return 0, nil
		}
		rules, err := aggregate(role, reconcile.As[*rbacv1.ClusterRole](roles.List("")))
		if err != nil || apiequality.Semantic.DeepEqual(rules, role.Rules) {
			return 0, err
		}
		changed := role.DeepCopy()
		changed.Rules = rules
		_, err = cfg.Client.Update(ctx, key, changed, api.UpdateOptions{})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return 0, nil // a change of the role comes back as an event
		}
		return 0, fmt.Errorf("aggregate %s: %w", key, err)
	}))
	// Any change may concern any aggregation; they are few.
	roles.OnChange(func(_, _ api.Object) {
		for _, role := range reconcile.As[*rbacv1.ClusterRole](roles.List("")) {
			if role.AggregationRule != nil {
				loop.Enqueue(api.ClusterRoles.KeyOf(role))
			}
		}
	})
	return loop
}

// aggregate is the union of the rules that a role's selectors choose; a rule
// that is there already is not repeated.
func aggregate(into *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	var selectors []labels.Selector
	for i := range into.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&into.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("selector %d of ClusterRole %s: %w", i, into.Name, err)
		}
		selectors = append(selectors, selector)
	}
	slices.SortFunc(all, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for _, role := range all {
		chosen := slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(role.Labels)) })
		if role.Name == into.Name || !chosen {
			continue
		}
		for _, rule := range role.Rules {
			same := func(other rbacv1.PolicyRule) bool { return apiequality.Semantic.DeepEqual(rule, other) }
			if !slices.ContainsFunc(rules, same) {
				rules = append(rules, rule)
			}
		}
	}
	return rules, nil
}
