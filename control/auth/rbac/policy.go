package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/auth"
)

// The labels and annotation of what every cluster has.
const (
	// autoupdate "true" lets Ensure restore what is missing from a role or
	// binding; "false" leaves it to the user.
	autoupdate    = "rbac.authorization.kubernetes.io/autoupdate"
	bootstrapping = "kubernetes.io/bootstrapping"
	aggregateTo   = "rbac.authorization.k8s.io/aggregate-to-"
)

// rule makes a rule from words separated by spaces. The core group is written
// as "core".
func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	r := rbacv1.PolicyRule{Verbs: strings.Fields(verbs), Resources: strings.Fields(resources), ResourceNames: names}
	for _, group := range strings.Fields(groups) {
		if group == "core" {
			group = ""
		}
		r.APIGroups = append(r.APIGroups, group)
	}
	return r
}

// eventRule lets a component record what happens.
func eventRule() rbacv1.PolicyRule {
	return rule("create patch update", "core events.k8s.io", "events")
}

// ofCluster is the metadata of what every cluster has.
func ofCluster(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{bootstrapping: "rbac-defaults"},
		Annotations: map[string]string{autoupdate: "true"}}
}

// whole is a ClusterRole that is aggregated from others and, when into is not
// empty, into another.
func whole(name, into string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: ofCluster(name)}
	if into != "" {
		r.Labels[aggregateTo+into] = "true"
	}
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{aggregateTo + name: "true"}}}}
	return r
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func account(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}
}

// bind makes a ClusterRoleBinding of the role's name.
func bind(role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: ofCluster(role), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
}

// named gives a binding another name than its role's.
func named(name string, b *rbacv1.ClusterRoleBinding) *rbacv1.ClusterRoleBinding {
	b.Name = name
	return b
}

// systemBindings say who has the system's roles from the start. Bootstrap
// tokens may ask for a node's certificate and have it approved; nodes may renew
// their own.
func systemBindings() []*rbacv1.ClusterRoleBinding {
	return []*rbacv1.ClusterRoleBinding{
		bind("cluster-admin", group(auth.GroupMasters)),
		bind("system:monitoring", group("system:monitoring")),
		bind("system:discovery", group(auth.GroupAuthenticated)),
		bind("system:basic-user", group(auth.GroupAuthenticated)),
		bind("system:public-info-viewer", group(auth.GroupAuthenticated), group(auth.GroupUnauthenticated)),
		bind("system:service-account-issuer-discovery", group(auth.GroupServiceAccounts)),
		bind("system:cluster-trust-bundle-discovery", group(auth.GroupServiceAccounts)),
		bind("system:node-proxier", user("system:kube-proxy")),
		named("wherry:node-proxier", bind("system:node-proxier", group(auth.GroupNodes))), // a node is its own kube-proxy
		bind("system:kube-controller-manager", user(auth.ControllerUser)),
		bind("system:kube-dns", account("kube-dns")),
		bind("system:kube-scheduler", user(auth.SchedulerUser)),
		bind("system:volume-scheduler", user(auth.SchedulerUser)),
		bind("system:node"),
		named("wherry:node-bootstrapper", bind("system:node-bootstrapper", group(auth.GroupBootstrappers))),
		named("wherry:node-autoapprove-bootstrap",
			bind("system:certificates.k8s.io:certificatesigningrequests:nodeclient", group(auth.GroupBootstrappers))),
		named("wherry:node-autoapprove-renewal",
			bind("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", group(auth.GroupNodes))),
	}
}
