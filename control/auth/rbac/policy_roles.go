package rbac

import (
	_ "embed"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// defaultRoles are the ClusterRoles of every cluster; how they are written
// stands at their head.
//
//go:embed roles.txt
var defaultRoles string

// controllerPrefix begins the names of the controllers' roles. The controllers
// in this process do not need them; those that a user runs under these service
// accounts do.
const controllerPrefix = "system:controller:"

// clusterRoles are the ClusterRoles that every cluster has, in no order that
// matters.
func clusterRoles() ([]*rbacv1.ClusterRole, error) {
	roles := []*rbacv1.ClusterRole{whole("admin", ""), whole("edit", "admin"), whole("view", "edit")}
	var last *rbacv1.ClusterRole
	for number, line := range strings.Split(defaultRoles, "\n") {
		text, indented := strings.CutPrefix(line, "  ")
		switch {
		case line == "" || line[0] == '#':
		case !indented:
			name, into, partOf := strings.Cut(line, " into ")
			last = &rbacv1.ClusterRole{ObjectMeta: ofCluster(name)}
			if partOf {
				last.Labels[aggregateTo+into] = "true"
			}
			roles = append(roles, last)
		default:
			r, ok := parseRule(text)
			if !ok || last == nil {
				return nil, fmt.Errorf("default roles, line %d: %q is no rule", number+1, text)
			}
			last.Rules = append(last.Rules, r)
		}
	}
	return roles, nil
}

// parseRule reads "verbs of resources in groups [named names]" or "verbs at paths".
func parseRule(text string) (rbacv1.PolicyRule, bool) {
	if verbs, urls, isPath := strings.Cut(text, " at "); isPath {
		return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), NonResourceURLs: strings.Fields(urls)}, true
	}
	verbs, what, haveOf := strings.Cut(text, " of ")
	resources, where, haveIn := strings.Cut(what, " in ")
	groups, names, _ := strings.Cut(where, " named ")
	return rule(verbs, groups, resources, strings.Fields(names)...), haveOf && haveIn
}

// controllerBindings bind each controller's role to its account.
func controllerBindings(roles []*rbacv1.ClusterRole) (out []*rbacv1.ClusterRoleBinding) {
	for _, role := range roles {
		if name, ok := strings.CutPrefix(role.Name, controllerPrefix); ok {
			out = append(out, bind(role.Name, account(name)))
		}
	}
	return out
}
