package match

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

// Criteria are what a request must look like. They are immutable.
type Criteria struct {
	rules, except       []admissionregistrationv1.NamedRuleWithOperations
	exact               bool
	namespaces, objects labels.Selector
}

// New makes criteria of validated fields. Without a selector everything is
// selected; without a policy equivalent versions match.
func New(rules, except []admissionregistrationv1.NamedRuleWithOperations, policy *admissionregistrationv1.MatchPolicyType,
	namespaces, objects *metav1.LabelSelector) (*Criteria, error) {
	c := &Criteria{rules: rules, except: except, exact: policy != nil && *policy == admissionregistrationv1.Exact}
	var err error
	if c.namespaces, err = selectorOf(namespaces); err != nil {
		return nil, fmt.Errorf("namespaceSelector: %w", err)
	}
	if c.objects, err = selectorOf(objects); err != nil {
		return nil, fmt.Errorf("objectSelector: %w", err)
	}
	return c, nil
}

// Rules are the rules of a webhook, which name no objects, as those of a policy.
func Rules(rules []admissionregistrationv1.RuleWithOperations) []admissionregistrationv1.NamedRuleWithOperations {
	out := make([]admissionregistrationv1.NamedRuleWithOperations, len(rules))
	for i := range rules {
		out[i].RuleWithOperations = rules[i]
	}
	return out
}

func selectorOf(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// Match tells whether a request is wanted, and as which version of its
// resource. An error is a StatusError about the request's namespace.
func (c *Criteria) Match(ctx context.Context, r *api.AdmissionRequest) (as api.Resource, ok bool, err error) {
	if IsConfiguration(r) {
		return api.Resource{}, false, nil
	}
	as, ok = c.version(r)
	if !ok || !c.object(r) {
		return api.Resource{}, false, nil
	}
	ok, err = c.namespace(ctx, r)
	return as, ok, err
}

// IsConfiguration tells whether a request is about webhooks and policies
// themselves. Nobody judges those, so that a mistake can always be mended.
func IsConfiguration(r *api.AdmissionRequest) bool {
	return r.Key.Group == admissionregistrationv1.GroupName
}

// version finds the version as which the rules want the request: the
// request's own, or the one that the first fitting rule names.
func (c *Criteria) version(r *api.AdmissionRequest) (api.Resource, bool) {
	// Served costs an allocation, and most requests are wanted by nobody.
	if !couldMatch(c.rules, r) {
		return api.Resource{}, false
	}
	served := r.Views.Served()
	if c.exact {
		served = served[:1]
	}
	if anyFits(c.except, r, served) {
		return api.Resource{}, false
	}
	if slices.ContainsFunc(c.rules, func(rule admissionregistrationv1.NamedRuleWithOperations) bool { return fits(&rule, r, &served[0]) }) {
		return served[0], true
	}
	for i := range c.rules {
		for j := range served[1:] {
			if fits(&c.rules[i], r, &served[1+j]) {
				return served[1+j], true
			}
		}
	}
	return api.Resource{}, false
}

func anyFits(rules []admissionregistrationv1.NamedRuleWithOperations, r *api.AdmissionRequest, served []api.Resource) bool {
	for i := range rules {
		for j := range served {
			if fits(&rules[i], r, &served[j]) {
				return true
			}
		}
	}
	return false
}

// couldMatch leaves the group and the version aside.
func couldMatch(rules []admissionregistrationv1.NamedRuleWithOperations, r *api.AdmissionRequest) bool {
	for i := range rules {
		if operation(&rules[i], r) && resource(&rules[i], r) {
			return true
		}
	}
	return false
}

// fits tells whether a rule matches the request as one for a version of its
// resource.
func fits(rule *admissionregistrationv1.NamedRuleWithOperations, r *api.AdmissionRequest, as *api.Resource) bool {
	return operation(rule, r) && resource(rule, r) && has(rule.APIGroups, as.Group) && has(rule.APIVersions, as.Version) &&
		scope(rule, r) && (len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, r.Key.Name))
}

func has(list []string, value string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}

func operation(rule *admissionregistrationv1.NamedRuleWithOperations, r *api.AdmissionRequest) bool {
	for _, op := range rule.Operations {
		if op == admissionregistrationv1.OperationAll || string(op) == string(r.Operation) {
			return true
		}
	}
	return false
}

// resource matches "pods", "pods/status", "pods/*", "*/scale", "*" (everything
// but subresources) and "*/*".
func resource(rule *admissionregistrationv1.NamedRuleWithOperations, r *api.AdmissionRequest) bool {
	for _, wanted := range rule.Resources {
		name, sub, _ := strings.Cut(wanted, "/")
		if (name == "*" || name == r.Key.Resource) && (sub == "*" || sub == r.Subresource) {
			return true
		}
	}
	return false
}

// scope counts namespaces as objects of the cluster.
func scope(rule *admissionregistrationv1.NamedRuleWithOperations, r *api.AdmissionRequest) bool {
	if rule.Scope == nil || *rule.Scope == admissionregistrationv1.AllScopes {
		return true
	}
	return (*rule.Scope == admissionregistrationv1.NamespacedScope) == r.Resource.Namespaced
}

// object tells whether the object, before or after, has the wanted labels.
func (c *Criteria) object(r *api.AdmissionRequest) bool {
	return c.objects.Empty() || r.Object != nil && c.objects.Matches(labels.Set(r.Object.GetLabels())) ||
		r.Old != nil && c.objects.Matches(labels.Set(r.Old.GetLabels()))
}

// namespace tells whether the request's namespace has the wanted labels. A
// request about a namespace is judged by what it shall become; objects of the
// cluster are always wanted.
func (c *Criteria) namespace(ctx context.Context, r *api.AdmissionRequest) (bool, error) {
	if c.namespaces.Empty() {
		return true, nil
	}
	ns, err := Namespace(ctx, r)
	if ns == nil || err != nil {
		return err == nil, err
	}
	return c.namespaces.Matches(labels.Set(ns.Labels)), nil
}

// Namespace returns the namespace of a request; nil for objects of the cluster
// other than namespaces. It is shared.
func Namespace(ctx context.Context, r *api.AdmissionRequest) (*corev1.Namespace, error) {
	name := NamespaceOf(r)
	if name == "" {
		return nil, nil
	}
	if r.Is(api.Namespaces, api.Create, api.Update) {
		if ns, ok := r.Object.(*corev1.Namespace); ok {
			return ns, nil
		}
	}
	ns, err := api.Get[*corev1.Namespace](ctx, r.Client, api.Namespaces.Key("", name))
	if err != nil && apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
		return nil, apierrors.NewInternalError(err)
	}
	return ns, err
}

// NamespaceOf is the namespace that a request is told to be in: for one about
// a namespace itself that one.
func NamespaceOf(r *api.AdmissionRequest) string {
	if r.Key.Resource == api.Namespaces.Name && r.Key.Group == api.Namespaces.Group {
		return r.Key.Name
	}
	return r.Key.Namespace
}
