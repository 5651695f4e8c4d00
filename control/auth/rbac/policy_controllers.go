package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/auth"
)

const controllerPrefix = "system:controller:"

// controllerRoles are the roles of Kubernetes' controllers, each bound to the
// service account of its name in kube-system. The controllers in this process
// do not need them; those that a user runs under these accounts do.
func controllerRoles() []*rbacv1.ClusterRole {
	of := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return clusterRole(controllerPrefix+name, append(rules, eventRule())...)
	}
	pods := rule("create delete list patch watch", "core", "pods")
	revisions := rule("create delete get list patch update watch", "apps", "controllerrevisions")
	return []*rbacv1.ClusterRole{
		of("attachdetach-controller", rule("list watch", "core", "persistentvolumeclaims persistentvolumes"), rule(reads, "core", "nodes"),
			rule("patch update", "core", "nodes/status"), rule("list watch", "core", "pods"),
			rule("create delete get list watch", "storage.k8s.io", "volumeattachments"), rule(reads, "storage.k8s.io", "csidrivers csinodes")),
		of("clusterrole-aggregation-controller", rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")),
		of("cronjob-controller", rule("get list update watch", "batch", "cronjobs"), rule("create delete get list patch update watch", "batch", "jobs"),
			rule("update", "batch", "cronjobs/status cronjobs/finalizers"), rule("delete list", "core", "pods")),
		of("daemon-set-controller", rule(reads, "apps extensions", "daemonsets"), rule("update", "apps extensions", "daemonsets/status daemonsets/finalizers"),
			rule("list watch", "core", "nodes"), pods, rule("create", "core", "pods/binding"), revisions),
		of("deployment-controller", rule("get list update watch", "apps extensions", "deployments"),
			rule("update", "apps extensions", "deployments/status deployments/finalizers"),
			rule("create delete get list patch update watch", "apps extensions", "replicasets"), rule("get list update watch", "core", "pods")),
		of("disruption-controller", rule(reads, "apps extensions", "deployments"), rule(reads, "apps extensions", "replicasets"),
			rule(reads, "core", "replicationcontrollers"), rule(reads, "policy", "poddisruptionbudgets"), rule(reads, "apps", "statefulsets"),
			rule("update", "policy", "poddisruptionbudgets/status"), rule("get", "*", "*/scale"), rule(reads, "core", "pods"), rule("patch update", "core", "pods/status")),
		of("endpoint-controller", rule(reads, "core", "pods services"), rule("create delete get list update", "core", "endpoints"),
			rule("create", "core", "endpoints/restricted")),
		of("endpointslice-controller", rule(reads, "core", "nodes pods services"), rule("update", "core", "services/finalizers"),
			rule("create delete get list update", "discovery.k8s.io", "endpointslices"), rule("create", "discovery.k8s.io", "endpointslices/restricted")),
		of("endpointslicemirroring-controller", rule(reads, "core", "endpoints services"), rule("update", "core", "services/finalizers endpoints/finalizers"),
			rule("create delete get list update", "discovery.k8s.io", "endpointslices"), rule("create", "discovery.k8s.io", "endpointslices/restricted")),
		of("ephemeral-volume-controller", rule("update", "core", "pods/finalizers"), rule(reads, "core", "pods"), rule("create get list watch", "core", "persistentvolumeclaims")),
		of("expand-controller", rule("get list patch update watch", "core", "persistentvolumes"), rule("patch update", "core", "persistentvolumeclaims/status"),
			rule(reads, "core", "persistentvolumeclaims")),
		of("generic-garbage-collector", rule("delete get list patch update watch", "*", "*")),
		of("horizontal-pod-autoscaler", rule(reads, "autoscaling", "horizontalpodautoscalers"), rule("update", "autoscaling", "horizontalpodautoscalers/status"),
			rule("get update", "*", "*/scale"), rule("list", "core", "pods"), rule("list", "metrics.k8s.io", "pods"),
			rule("get list", "custom.metrics.k8s.io", "*"), rule("get list", "external.metrics.k8s.io", "*")),
		of("job-controller", rule("get list patch update watch", "batch", "jobs"), rule("update", "batch", "jobs/status jobs/finalizers"), pods),
		of("namespace-controller", rule("delete get list watch", "core", "namespaces"), rule("update", "core", "namespaces/finalize namespaces/status"),
			rule("delete deletecollection get list", "*", "*")),
		of("node-controller", rule("delete get list patch update", "core", "nodes"), rule("patch update", "core", "nodes/status"),
			rule("patch update", "core", "pods/status"), rule("delete get list", "core", "pods")),
		of("persistent-volume-binder", rule(all, "core", "persistentvolumes"), rule("update", "core", "persistentvolumes/status persistentvolumeclaims/status"),
			rule("get list update watch", "core", "persistentvolumeclaims"), rule("create delete get list watch", "core", "pods"),
			rule(reads, "storage.k8s.io", "storageclasses"), rule("get list", "core", "nodes")),
		of("pod-garbage-collector", rule("delete list watch", "core", "pods"), rule("get list", "core", "nodes"), rule("patch", "core", "pods/status")),
		of("pv-protection-controller", rule("get list update watch", "core", "persistentvolumes")),
		of("pvc-protection-controller", rule("get list update watch", "core", "persistentvolumeclaims"), rule(reads, "core", "pods")),
		of("replicaset-controller", rule("get list update watch", "apps extensions", "replicasets"),
			rule("update", "apps extensions", "replicasets/status replicasets/finalizers"), pods),
		of("replication-controller", rule("get list update watch", "core", "replicationcontrollers"),
			rule("update", "core", "replicationcontrollers/status replicationcontrollers/finalizers"), pods),
		of("resourcequota-controller", rule("list watch", "*", "*"), rule("update", "core", "resourcequotas/status")),
		of("root-ca-cert-publisher", rule("create update", "core", "configmaps")),
		of("service-account-controller", rule("create", "core", "serviceaccounts")),
		of("statefulset-controller", rule("list watch", "core", "pods"), rule(reads, "apps", "statefulsets"),
			rule("update", "apps", "statefulsets/status statefulsets/finalizers"), rule("create delete get patch update", "core", "pods"), revisions,
			rule("create get list patch update watch", "core", "persistentvolumeclaims")),
		of("ttl-after-finished-controller", rule("delete get list watch", "batch", "jobs")),
		of("ttl-controller", rule("list patch update watch", "core", "nodes")),
		of("certificate-controller", rule("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
			rule("update", "certificates.k8s.io", "certificatesigningrequests/status certificatesigningrequests/approval"),
			rule("approve sign", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kube-apiserver-client", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews")),
	}
}

// controllerBindings bind each controller's role to its account.
func controllerBindings() (out []*rbacv1.ClusterRoleBinding) {
	for _, role := range controllerRoles() {
		out = append(out, bind(role.Name, account(strings.TrimPrefix(role.Name, controllerPrefix))))
	}
	return out
}

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
		return in(metav1.NamespaceSystem, "system::leader-locking-"+name, rule("watch", "core", "configmaps"),
			rule("get update", "core", "configmaps", name))
	}
	return []*rbacv1.Role{
		in(metav1.NamespaceSystem, "extension-apiserver-authentication-reader",
			rule(reads, "core", "configmaps", "extension-apiserver-authentication")),
		in(metav1.NamespaceSystem, controllerPrefix+"bootstrap-signer", rule(reads, "core", "secrets")),
		in(metav1.NamespaceSystem, controllerPrefix+"cloud-provider", rule("create get list watch", "core", "configmaps")),
		in(metav1.NamespaceSystem, controllerPrefix+"token-cleaner", rule("delete get list watch", "core", "secrets"), eventRule()),
		leader("kube-controller-manager"),
		leader("kube-scheduler"),
		in(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer", rule(reads, "core", "configmaps"),
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
		in(metav1.NamespaceSystem, "system::leader-locking-kube-controller-manager", user(auth.ControllerUser), account("kube-controller-manager")),
		in(metav1.NamespaceSystem, "system::leader-locking-kube-scheduler", user(auth.SchedulerUser), account("kube-scheduler")),
		in(metav1.NamespaceSystem, controllerPrefix+"bootstrap-signer", account("bootstrap-signer")),
		in(metav1.NamespaceSystem, controllerPrefix+"cloud-provider", account("cloud-provider")),
		in(metav1.NamespaceSystem, controllerPrefix+"token-cleaner", account("token-cleaner")),
		in(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer", account("bootstrap-signer")),
		in(metav1.NamespacePublic, clusterInfoReader, user(auth.AnonymousUser)),
	}
}
