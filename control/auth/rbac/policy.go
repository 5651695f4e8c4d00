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

// Groups of verbs, as Kubernetes' own roles use them.
const (
	reads  = "get list watch"
	writes = "create delete deletecollection patch update"
	all    = "create delete deletecollection get list patch update watch"
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

func paths(verbs string, urls ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), NonResourceURLs: urls}
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

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: ofCluster(name), Rules: rules}
}

// part is a ClusterRole that is aggregated into another.
func part(name, into string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := clusterRole(name, rules...)
	r.Labels[aggregateTo+into] = "true"
	return r
}

// whole is a ClusterRole that is aggregated from others and, when into is not
// empty, into another.
func whole(name, into string) *rbacv1.ClusterRole {
	r := clusterRole(name)
	if into != "" {
		r.Labels[aggregateTo+into] = "true"
	}
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{aggregateTo + name: "true"}}}}
	return r
}

// userRoles are the roles that people are given.
func userRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		clusterRole("cluster-admin", rule("*", "*", "*"), paths("*", "*")),
		whole("admin", ""),
		whole("edit", "admin"),
		whole("view", "edit"),
		part("system:aggregate-to-admin", "admin",
			rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
			rule(all, "rbac.authorization.k8s.io", "roles rolebindings")),
		part("system:aggregate-to-edit", "edit", editRules()...),
		part("system:aggregate-to-view", "view", viewRules()...),
	}
}

func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(reads, "core", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
		rule("impersonate", "core", "serviceaccounts"),
		rule(writes, "core", "pods pods/attach pods/proxy pods/exec pods/portforward"),
		rule("create", "core", "pods/eviction"),
		rule(writes, "core", "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "+
			"serviceaccounts services services/proxy"),
		rule("create", "core", "serviceaccounts/token"),
		rule(writes, "apps", "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale "+
			"statefulsets statefulsets/scale"),
		rule(writes, "autoscaling", "horizontalpodautoscalers"),
		rule(writes, "batch", "cronjobs jobs"),
		rule(writes, "extensions", "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies "+
			"replicasets replicasets/scale replicationcontrollers/scale"),
		rule(writes, "policy", "poddisruptionbudgets"),
		rule(writes, "networking.k8s.io", "ingresses networkpolicies"),
		rule(all, "coordination.k8s.io", "leases"),
		rule(writes, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
	}
}

func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(reads, "core", "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods "+
			"replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"),
		rule(reads, "core", "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "+
			"resourcequotas resourcequotas/status"),
		rule(reads, "core", "namespaces"),
		rule(reads, "discovery.k8s.io", "endpointslices"),
		rule(reads, "apps", "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status "+
			"replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"),
		rule(reads, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
		rule(reads, "batch", "cronjobs cronjobs/status jobs jobs/status"),
		rule(reads, "extensions", "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses "+
			"ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale"),
		rule(reads, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
		rule(reads, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
		rule(reads, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
	}
}

// systemRoles are the roles of everybody and of the cluster's components.
func systemRoles() []*rbacv1.ClusterRole {
	return append([]*rbacv1.ClusterRole{
		clusterRole("system:discovery", paths("get", "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi",
			"/openapi/*", "/readyz", "/version", "/version/")),
		clusterRole("system:basic-user",
			rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			rule("create", "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:public-info-viewer", paths("get", "/healthz", "/livez", "/readyz", "/version", "/version/")),
		clusterRole("system:monitoring", paths("get", "/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis",
			"/readyz", "/readyz/*")),
		clusterRole("system:service-account-issuer-discovery", paths("get", "/.well-known/openid-configuration",
			"/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/")),
		clusterRole("system:auth-delegator",
			rule("create", "authentication.k8s.io", "tokenreviews"), rule("create", "authorization.k8s.io", "subjectaccessreviews")),
		clusterRole("system:heapster", rule(reads, "core", "events namespaces nodes pods"), rule(reads, "extensions", "deployments")),
		clusterRole("system:kube-aggregator", rule(reads, "core", "services endpoints"), rule(reads, "discovery.k8s.io", "endpointslices")),
		clusterRole("system:kube-dns", rule("list watch", "core", "endpoints services")),
		clusterRole("system:persistent-volume-provisioner", rule("create delete get list watch", "core", "persistentvolumes"),
			rule("get list update watch", "core", "persistentvolumeclaims"), rule(reads, "storage.k8s.io", "storageclasses"),
			rule("watch", "core", "events"), eventRule()),
		clusterRole("system:kubelet-api-admin", rule(reads, "core", "nodes"), rule("proxy", "core", "nodes"),
			rule("*", "core", "nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats")),
		clusterRole("system:kube-controller-manager", controllerManagerRules()...),
		clusterRole("system:kube-scheduler", schedulerRules()...),
		clusterRole("system:volume-scheduler", rule("get list patch update watch", "core", "persistentvolumes"),
			rule(reads, "storage.k8s.io", "storageclasses"), rule("get list patch update watch", "core", "persistentvolumeclaims")),
	}, nodeRoles()...)
}

func controllerManagerRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		eventRule(),
		rule("create", "coordination.k8s.io", "leases"),
		rule("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
		rule("create", "core", "secrets serviceaccounts"),
		rule("delete", "core", "secrets"),
		rule("get", "core", "configmaps namespaces secrets serviceaccounts"),
		rule("update", "core", "secrets serviceaccounts"),
		rule("create", "authentication.k8s.io", "tokenreviews"),
		rule("create", "authorization.k8s.io", "subjectaccessreviews"),
		rule("list watch", "*", "*"),
		rule("create", "core", "serviceaccounts/token"),
	}
}

func schedulerRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		eventRule(),
		rule("create", "coordination.k8s.io", "leases"),
		rule("get list update watch", "coordination.k8s.io", "leases", "kube-scheduler"),
		rule(reads, "core", "nodes namespaces"),
		rule("delete get list watch", "core", "pods"),
		rule("create", "core", "bindings pods/binding"),
		rule("patch update", "core", "pods/status"),
		rule(reads, "core", "replicationcontrollers services"),
		rule(reads, "apps extensions", "replicasets"),
		rule(reads, "apps", "statefulsets"),
		rule(reads, "policy", "poddisruptionbudgets"),
		rule(reads, "core", "persistentvolumeclaims persistentvolumes"),
		rule("create", "authentication.k8s.io", "tokenreviews"),
		rule("create", "authorization.k8s.io", "subjectaccessreviews"),
		rule(reads, "storage.k8s.io", "csinodes csidrivers csistoragecapacities volumeattachments"),
		rule("get list patch update watch", "resource.k8s.io", "resourceclaims resourceclaims/status"),
		rule(reads, "resource.k8s.io", "deviceclasses resourceslices"),
	}
}

// nodeRoles are what nodes need: to join, to renew their certificates, to
// forward traffic. What their agents may do is the node authorizer's.
func nodeRoles() []*rbacv1.ClusterRole {
	const csr = "certificates.k8s.io"
	return []*rbacv1.ClusterRole{
		clusterRole("system:node", nodeRules()...),
		clusterRole("system:cluster-trust-bundle-discovery", rule(reads, csr, "clustertrustbundles")),
		clusterRole("system:node-bootstrapper", rule("create get list watch", csr, "certificatesigningrequests")),
		clusterRole("system:node-problem-detector", rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), eventRule()),
		clusterRole("system:node-proxier", rule("list watch", "core", "services endpoints"), rule(reads, "core", "nodes"), eventRule(),
			rule("list watch", "discovery.k8s.io", "endpointslices"), rule("list watch", "networking.k8s.io", "servicecidrs")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:nodeclient",
			rule("create", csr, "certificatesigningrequests/nodeclient")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
			rule("create", csr, "certificatesigningrequests/selfnodeclient")),
		clusterRole("system:certificates.k8s.io:kube-apiserver-client-approver", rule("approve", csr, "signers", "kubernetes.io/kube-apiserver-client")),
		clusterRole("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
			rule("approve", csr, "signers", "kubernetes.io/kube-apiserver-client-kubelet")),
		clusterRole("system:certificates.k8s.io:kubelet-serving-approver", rule("approve", csr, "signers", "kubernetes.io/kubelet-serving")),
		clusterRole("system:certificates.k8s.io:legacy-unknown-approver", rule("approve", csr, "signers", "kubernetes.io/legacy-unknown")),
	}
}

// nodeRules are those that Kubernetes' role for nodes has. Nobody is bound to it:
// the node authorizer lets nodes do less. Whoever binds it knows that.
func nodeRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("create", "authentication.k8s.io", "tokenreviews"),
		rule("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
		rule(reads, "core", "services"),
		rule("create get list watch patch update", "core", "nodes"),
		rule("patch update", "core", "nodes/status"),
		eventRule(),
		rule("create delete get list watch", "core", "pods"),
		rule("patch update", "core", "pods/status"),
		rule("create", "core", "pods/eviction serviceaccounts/token"),
		rule(reads, "core", "configmaps secrets"),
		rule("get", "core", "endpoints persistentvolumeclaims persistentvolumes"),
		rule("get patch update", "core", "persistentvolumeclaims/status"),
		rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
		rule("create delete get patch update", "coordination.k8s.io", "leases"),
		rule("get", "storage.k8s.io", "volumeattachments"),
		rule(reads, "storage.k8s.io", "csidrivers"),
		rule("create delete get patch update", "storage.k8s.io", "csinodes"),
		rule(reads, "node.k8s.io", "runtimeclasses"),
		rule("get", "resource.k8s.io", "resourceclaims"),
		rule(all, "resource.k8s.io", "resourceslices"),
		rule(reads, "certificates.k8s.io", "clustertrustbundles"),
		rule("create get list watch", "certificates.k8s.io", "podcertificaterequests"),
	}
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
