package kinds

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SuggestedPriorityLevels are the levels that Kubernetes makes beside the
// mandatory ones, for administrators to change:
// https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#suggested-configuration-objects
func SuggestedPriorityLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	level := func(name string, shares, lendable, queues, hand int32) *flowcontrolv1.PriorityLevelConfiguration {
		return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: suggested(name), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &shares, LendablePercent: &lendable,
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue,
					Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: 50}}}}}
	}
	return []*flowcontrolv1.PriorityLevelConfiguration{
		level("system", 30, 33, 64, 6),
		level("node-high", 40, 25, 64, 6),
		level("leader-election", 10, 0, 16, 4),
		level("workload-high", 40, 50, 128, 6),
		level("workload-low", 100, 90, 128, 6),
		level("global-default", 20, 50, 128, 6),
	}
}

// suggested names an object that the server keeps up to date until somebody
// takes the annotation to "false".
func suggested(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

// SuggestedFlowSchemas lead requests to the suggested levels.
func SuggestedFlowSchemas() []*flowcontrolv1.FlowSchema {
	leases := []string{"coordination.k8s.io"}
	renewal := []string{"get", "create", "update"}
	scheduler, manager := flowUser("system:kube-scheduler"), flowUser("system:kube-controller-manager")
	nodes, accounts := flowGroup("system:nodes"), flowAccount("kube-system", "*")
	everybody := []flowcontrolv1.Subject{flowGroup("system:unauthenticated"), flowGroup("system:authenticated")}
	nodeHigh := someOf([]flowcontrolv1.Subject{nodes}, []string{"*"}, []string{""}, flowcontrolv1.NamespaceEvery, true, "nodes", "nodes/status")
	nodeHigh.ResourceRules = append(nodeHigh.ResourceRules,
		someOf(nil, []string{"*"}, leases, flowcontrolv1.NamespaceEvery, false, "leases").ResourceRules...)
	probes := flowSchema("probes", exemptFlow, 2, flowcontrolv1.PolicyRulesWithSubjects{Subjects: everybody,
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}}})
	probes.Spec.DistinguisherMethod = nil
	return []*flowcontrolv1.FlowSchema{
		probes,
		flowSchema("system-leader-election", "leader-election", 100,
			someOf([]flowcontrolv1.Subject{manager, scheduler, accounts}, renewal, leases, flowcontrolv1.NamespaceEvery, false, "leases")),
		flowSchema("system-node-high", "node-high", 400, nodeHigh),
		flowSchema("system-nodes", "system", 500, allOf(nodes)),
		byNamespace(flowSchema("kube-controller-manager", "workload-high", 800, allOf(manager))),
		byNamespace(flowSchema("kube-scheduler", "workload-high", 800, allOf(scheduler))),
		byNamespace(flowSchema("kube-system-service-accounts", "workload-high", 900, allOf(accounts))),
		flowSchema("service-accounts", "workload-low", 9000, allOf(flowGroup("system:serviceaccounts"))),
		flowSchema("global-default", "global-default", 9900, allOf(everybody...)),
	}
}

func flowSchema(name, level string, precedence int32, rules ...flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	return &flowcontrolv1.FlowSchema{ObjectMeta: suggested(name), Spec: flowcontrolv1.FlowSchemaSpec{
		PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level}, MatchingPrecedence: precedence,
		DistinguisherMethod: &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType}, Rules: rules}}
}

// byNamespace lets requests for one namespace wait for each other, not those of one user.
func byNamespace(schema *flowcontrolv1.FlowSchema) *flowcontrolv1.FlowSchema {
	schema.Spec.DistinguisherMethod.Type = flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	return schema
}

func flowGroup(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: name}}
}

func flowUser(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: name}}
}

func flowAccount(namespace, name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount,
		ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: name}}
}

// allOf is every request of the subjects.
func allOf(subjects ...flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
	rules := someOf(subjects, []string{"*"}, []string{"*"}, flowcontrolv1.NamespaceEvery, true, "*")
	rules.NonResourceRules = []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}
	return rules
}

// someOf is what the subjects do to resources.
func someOf(subjects []flowcontrolv1.Subject, verbs, groups []string, namespace string, cluster bool, resources ...string) flowcontrolv1.PolicyRulesWithSubjects {
	return flowcontrolv1.PolicyRulesWithSubjects{Subjects: subjects, ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
		Verbs: verbs, APIGroups: groups, Resources: resources, ClusterScope: cluster, Namespaces: []string{namespace}}}}
}
