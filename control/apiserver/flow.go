package apiserver

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"wherry.dev/wherry/control/auth"
)

// digest is what flow control looks at in a request.
type digest struct {
	user      auth.User
	verb      string // of a path, the method in lower case
	isPath    bool   // no resource
	path      string
	group     string
	resource  string // with its subresource: pods/log
	namespace string
}

func (c *call) digest() digest {
	a := c.attributes()
	d := digest{user: c.user, verb: a.Verb, isPath: a.Resource == "", path: a.Path, group: a.Group, resource: a.Resource, namespace: a.Namespace}
	if a.Subresource != "" {
		d.resource += "/" + a.Subresource
	}
	return d
}

// matches tells whether a flow schema takes the request: one of its rules
// names the sender, and one of that rule's rules what is asked for
// (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#flowschema).
func (d digest) matches(schema *flowcontrolv1.FlowSchema) bool {
	for i := range schema.Spec.Rules {
		rule := &schema.Spec.Rules[i]
		if !slices.ContainsFunc(rule.Subjects, d.sentBy) {
			continue
		}
		if d.isPath && slices.ContainsFunc(rule.NonResourceRules, d.asksPath) ||
			!d.isPath && slices.ContainsFunc(rule.ResourceRules, d.asksResource) {
			return true
		}
	}
	return false
}

func (d digest) sentBy(subject flowcontrolv1.Subject) bool {
	switch {
	case subject.User != nil:
		return subject.User.Name == "*" || subject.User.Name == d.user.Name
	case subject.Group != nil:
		return subject.Group.Name == "*" || d.user.In(subject.Group.Name)
	case subject.ServiceAccount != nil:
		namespace, name, ok := auth.SplitServiceAccount(d.user.Name)
		return ok && namespace == subject.ServiceAccount.Namespace &&
			(subject.ServiceAccount.Name == "*" || subject.ServiceAccount.Name == name)
	}
	return false
}

func (d digest) asksPath(rule flowcontrolv1.NonResourcePolicyRule) bool {
	return oneOf(rule.Verbs, d.verb) && slices.ContainsFunc(rule.NonResourceURLs, func(url string) bool {
		below, many := strings.CutSuffix(url, "*")
		return url == d.path || many && strings.HasPrefix(d.path, below)
	})
}

func (d digest) asksResource(rule flowcontrolv1.ResourcePolicyRule) bool {
	if !oneOf(rule.Verbs, d.verb) || !oneOf(rule.APIGroups, d.group) || !oneOf(rule.Resources, d.resource) {
		return false
	}
	if d.namespace == "" {
		return rule.ClusterScope
	}
	return oneOf(rule.Namespaces, d.namespace)
}

// oneOf tells whether a list has a value, or everything.
func oneOf(list []string, value string) bool {
	return slices.Contains(list, value) || slices.Contains(list, "*")
}

// flowOf is what distinguishes the flows of a schema: requests of one flow wait
// for each other.
func (d digest) flowOf(schema *flowcontrolv1.FlowSchema) string {
	name := schema.Name + "/"
	if schema.Spec.DistinguisherMethod == nil {
		return name
	}
	if schema.Spec.DistinguisherMethod.Type == flowcontrolv1.FlowDistinguisherMethodByNamespaceType {
		return name + d.namespace
	}
	return name + d.user.Name
}
