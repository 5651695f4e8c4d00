package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/auth"
)

// namespaceRoles are the roles that every cluster has in single namespaces:
// the API server's trust anchors, leader election, bootstrap tokens and
// cluster-info, which anybody may read.
func namespaceRoles() []*rbacv1.Role {
	in := func(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
		meta := ofCluster(name)
		meta.Namespace = namespace
		return &rbacv1.Role{ObjectMeta: meta, Rules: rules}
	}
	leader := func(name string) *rbacv1.Role {
		const verbs = "create get list update watch"
		return in(metav1.NamespaceSystem, "system::leader-locking-"+name, rule(verbs, "coordination.k8s.io", "leases"),
			rule(verbs, "coordination.k8s.io", "leasecandidates"))
	}
	return []*rbacv1.Role{
		in(metav1.NamespaceSystem, "extension-apiserver-authentication-reader",
			rule("get list watch", "core", "configmaps", "extension-apiserver-authentication")),
		in(metav1.NamespaceSystem, controllerPrefix+"bootstrap-signer", rule("get list watch", "core", "secrets")),
		in(metav1.NamespaceSystem, controllerPrefix+"cloud-provider", rule("create get list watch", "core", "configmaps")),
		in(metav1.NamespaceSystem, controllerPrefix+"token-cleaner", rule("delete get list watch", "core", "secrets"), eventRule()),
		leader("kube-controller-manager"),
		leader("kube-scheduler"),
		in(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer", rule("get list watch", "core", "configmaps"),
			rule("update", "core", "configmaps", clusterInfo), eventRule()),
		in(metav1.NamespacePublic, clusterInfoReader, rule("get", "core", "configmaps", clusterInfo)),
	}
}

const (
	clusterInfo       = "cluster-info"
	clusterInfoReader = "wherry:cluster-info"
)

// namespaceBindings bind them.
func namespaceBindings() []*rbacv1.RoleBinding {
	in := func(namespace, name string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
		meta := ofCluster(name)
		meta.Namespace = namespace
		return &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}}
	}
	reader := in(metav1.NamespaceSystem, "system::extension-apiserver-authentication-reader", user(auth.ControllerUser), user(auth.SchedulerUser))
	reader.RoleRef.Name = "extension-apiserver-authentication-reader"
	return []*rbacv1.RoleBinding{
		reader,
		in(metav1.NamespaceSystem, "system::leader-locking-kube-controller-manager", user(auth.ControllerUser), account("kube-controller-manager"),
			account("leader-election-controller")),
		in(metav1.NamespaceSystem, "system::leader-locking-kube-scheduler", user(auth.SchedulerUser), account("kube-scheduler")),
		in(metav1.NamespaceSystem, controllerPrefix+"bootstrap-signer", account("bootstrap-signer")),
		in(metav1.NamespaceSystem, controllerPrefix+"cloud-provider", account("cloud-provider")),
		in(metav1.NamespaceSystem, controllerPrefix+"token-cleaner", account("token-cleaner")),
		in(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer", account("bootstrap-signer")),
		in(metav1.NamespacePublic, clusterInfoReader, user(auth.AnonymousUser)),
	}
}
