package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"wherry.dev/wherry/control/auth"
)

// ruleSet is a list of rules that can be asked quickly: rules are found by the
// resource, written as in rules ("pods/log", "*/scale", "*").
type ruleSet struct {
	rules      []rbacv1.PolicyRule
	byResource map[string][]granted
	paths      []granted
}

// granted is a rule and which binding grants it.
type granted struct {
	rule *rbacv1.PolicyRule
	why  string
}

func (s *ruleSet) add(rules []rbacv1.PolicyRule, why string) {
	if s.byResource == nil {
		s.byResource = map[string][]granted{}
	}
	for i := range rules {
		g := granted{rule: &rules[i], why: why}
		for _, resource := range rules[i].Resources {
			s.byResource[resource] = append(s.byResource[resource], g)
		}
		if len(rules[i].NonResourceURLs) > 0 {
			s.paths = append(s.paths, g)
		}
	}
	s.rules = append(s.rules, rules...)
}

// allows says whether a rule grants the request, and why.
func (s *ruleSet) allows(what auth.Attributes) (why string, ok bool) {
	if s == nil {
		return "", false
	}
	if what.Resource == "" {
		for _, g := range s.paths {
			if has(g.rule.Verbs, what.Verb) && hasPath(g.rule.NonResourceURLs, what.Path) {
				return g.why, true
			}
		}
		return "", false
	}
	names := [3]string{what.Resource, rbacv1.ResourceAll, ""}
	if what.Subresource != "" {
		names[0], names[2] = what.Resource+"/"+what.Subresource, "*/"+what.Subresource
	}
	for _, name := range names {
		for _, g := range s.byResource[name] {
			if g.grants(what) {
				return g.why, true
			}
		}
	}
	return "", false
}

func (g granted) grants(what auth.Attributes) bool {
	return has(g.rule.Verbs, what.Verb) && has(g.rule.APIGroups, what.Group) &&
		(len(g.rule.ResourceNames) == 0 || slices.Contains(g.rule.ResourceNames, what.Name))
}

// has finds a word or the star that stands for all.
func has(words []string, word string) bool {
	for _, w := range words {
		if w == word || w == "*" {
			return true
		}
	}
	return false
}

// hasPath finds a path, or a pattern that ends with a star and fits.
func hasPath(patterns []string, path string) bool {
	for _, pattern := range patterns {
		if pattern == path || strings.HasSuffix(pattern, "*") && strings.HasPrefix(path, strings.TrimRight(pattern, "*")) {
			return true
		}
	}
	return false
}
