package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/auth/rbac/validation"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// Roles knows the rules that users have and that roles give. *rbac.Authorizer
// is one.
type Roles interface {
	auth.RuleResolver
	// RulesOf are the rules of the role that a binding in a namespace names.
	RulesOf(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error)
}

// roleEscalation lets nobody grant by a role or a binding what they may not do
// themselves, unless they have leave to "escalate" the role or to "bind" it
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping).
func roleEscalation(authorizer auth.Authorizer, roles Roles) Plugin {
	e := escalation{authorizer: authorizer, roles: roles}
	return Plugin{Name: "RBACEscalation", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		if r.Key.Group != rbacv1.GroupName || r.Operation != api.Create && r.Operation != api.Update {
			return nil
		}
		who := auth.SenderOf(ctx)
		if who.In(auth.GroupMasters) || r.Old != nil && sameButMeta(r.Object, r.Old) {
			return nil
		}
		return e.check(ctx, who, r)
	}}
}

type escalation struct {
	authorizer auth.Authorizer
	roles      Roles
}

// everything is what the writer of an aggregation rule grants: nobody knows
// what will be aggregated.
func everything() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}},
		{NonResourceURLs: []string{"*"}, Verbs: []string{"*"}},
	}
}

func (e escalation) check(ctx context.Context, who auth.User, r *api.AdmissionRequest) error {
	verb, about := "escalate", r.Key
	var rules []rbacv1.PolicyRule
	switch obj := r.Object.(type) {
	case *rbacv1.Role:
		rules = obj.Rules
	case *rbacv1.ClusterRole:
		rules = obj.Rules
		old, _ := r.Old.(*rbacv1.ClusterRole)
		if obj.AggregationRule != nil || old != nil && old.AggregationRule != nil {
			rules = everything()
		}
	case *rbacv1.RoleBinding:
		return e.checkBinding(ctx, who, r, obj.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return e.checkBinding(ctx, who, r, obj.RoleRef)
	default:
		return nil
	}
	if e.allowed(ctx, who, verb, about) {
		return nil
	}
	return e.covered(who, r.Key, rules)
}

func (e escalation) checkBinding(ctx context.Context, who auth.User, r *api.AdmissionRequest, ref rbacv1.RoleRef) error {
	about := api.ClusterRoles.Key("", ref.Name)
	if ref.Kind == api.Roles.Kind {
		about = api.Roles.Key(r.Key.Namespace, ref.Name)
	}
	if e.allowed(ctx, who, "bind", api.Key{Group: about.Group, Resource: about.Resource, Namespace: r.Key.Namespace, Name: about.Name}) {
		return nil
	}
	rules, err := e.roles.RulesOf(ref, r.Key.Namespace)
	if err != nil {
		return apierrors.NewNotFound(about.GroupResource(), ref.Name)
	}
	return e.covered(who, r.Key, rules)
}

func (e escalation) allowed(ctx context.Context, who auth.User, verb string, about api.Key) bool {
	allowed, _, err := e.authorizer.Authorize(ctx, auth.Attributes{User: who, Verb: verb,
		Group: about.Group, Resource: about.Resource, Namespace: about.Namespace, Name: about.Name})
	return allowed && err == nil
}

// covered refuses rules that the user does not have.
func (e escalation) covered(who auth.User, key api.Key, rules []rbacv1.PolicyRule) error {
	own, gaps := e.roles.RulesFor(who, key.Namespace)
	ok, missing := validation.Covers(own, rules)
	if ok {
		return nil
	}
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		who.Name, who.Groups, strings.Join(describeRules(missing), "\n"))
	if gaps != nil {
		text += fmt.Sprintf("; resolution errors: %v", gaps)
	}
	return apierrors.NewForbidden(key.GroupResource(), key.Name, fmt.Errorf("%s", text))
}

// describeRules renders rules of one verb each, those that differ in the verb
// only as one, sorted.
func describeRules(rules []rbacv1.PolicyRule) []string {
	verbs := map[string][]string{}
	for _, rule := range rules {
		var parts []string
		part := func(name string, values []string) {
			if len(values) > 0 {
				parts = append(parts, fmt.Sprintf("%s:%q", name, values))
			}
		}
		part("APIGroups", rule.APIGroups)
		part("Resources", rule.Resources)
		part("NonResourceURLs", rule.NonResourceURLs)
		part("ResourceNames", rule.ResourceNames)
		what := strings.Join(parts, ", ")
		verbs[what] = append(verbs[what], rule.Verbs...)
	}
	var out []string
	for what, list := range verbs {
		out = append(out, fmt.Sprintf("{%s, Verbs:%q}", what, list))
	}
	slices.Sort(out)
	return out
}

// sameButMeta tells whether an update changes only what the garbage collector
// changes: owners and finalizers.
func sameButMeta(obj, old api.Object) bool {
	next, before := obj.DeepCopyObject().(api.Object), old.DeepCopyObject().(api.Object)
	for _, o := range []api.Object{next, before} {
		o.SetOwnerReferences(nil)
		o.SetFinalizers(nil)
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
	}
	return apiequality.Semantic.DeepEqual(next, before)
}
