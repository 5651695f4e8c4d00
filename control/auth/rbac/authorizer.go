package rbac

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/reconcile"
)

// maxCompiled bounds how many users' rules are kept compiled.
const maxCompiled = 4096

// bySubject is the index of bindings by whom they are for.
const bySubject = "subject"

// Authorizer allows what a binding grants. It implements auth.Authorizer and
// auth.RuleResolver. It knows nothing, and so allows nothing, before it has
// synced.
type Authorizer struct {
	log *slog.Logger

	// Set by Follow, before any request.
	roles, clusterRoles, bindings, clusterBindings *reconcile.Informer
	informers                                      *reconcile.Informers

	// changes counts what the informers have reported; what was compiled at
	// another count is stale.
	changes atomic.Uint64

	mu       sync.Mutex
	compiled map[string]*grants // by user and groups
}

// New returns an Authorizer that follows nothing yet. A nil log means no logs.
func New(log *slog.Logger) *Authorizer {
	return &Authorizer{log: log, compiled: map[string]*grants{}}
}

// Follow makes the Authorizer read the cluster through a client. Run does the
// work; call it once, before Run.
func (a *Authorizer) Follow(c api.Client) {
	a.informers = reconcile.NewInformers(c, a.log)
	a.roles, a.clusterRoles = a.informers.For(api.Roles), a.informers.For(api.ClusterRoles)
	a.bindings, a.clusterBindings = a.informers.For(api.RoleBindings), a.informers.For(api.ClusterRoleBindings)
	for _, i := range []*reconcile.Informer{a.bindings, a.clusterBindings} {
		i.AddIndex(bySubject, subjectsOf)
	}
	for _, i := range []*reconcile.Informer{a.roles, a.clusterRoles, a.bindings, a.clusterBindings} {
		i.OnChange(func(_, _ api.Object) { a.changes.Add(1) })
	}
}

// Run keeps the rules current until ctx ends.
func (a *Authorizer) Run(ctx context.Context) error { return a.informers.Run(ctx) }

// WaitSynced blocks until the rules are known.
func (a *Authorizer) WaitSynced(ctx context.Context) error { return a.informers.WaitSynced(ctx) }

// subjectsOf are a binding's subjects as index values.
func subjectsOf(obj api.Object) []string {
	_, subjects := bindingOf(obj)
	out := make([]string, 0, len(subjects))
	for _, s := range subjects {
		if s.Kind == rbacv1.ServiceAccountKind {
			namespace := s.Namespace
			if namespace == "" {
				namespace = obj.GetNamespace()
			}
			out = append(out, rbacv1.UserKind+"/"+auth.ServiceAccountUser(namespace, s.Name))
			continue
		}
		out = append(out, s.Kind+"/"+s.Name)
	}
	return out
}

func bindingOf(obj api.Object) (rbacv1.RoleRef, []rbacv1.Subject) {
	switch b := obj.(type) {
	case *rbacv1.RoleBinding:
		return b.RoleRef, b.Subjects
	case *rbacv1.ClusterRoleBinding:
		return b.RoleRef, b.Subjects
	}
	return rbacv1.RoleRef{}, nil
}

// Authorize implements auth.Authorizer.
func (a *Authorizer) Authorize(_ context.Context, what auth.Attributes) (bool, string, error) {
	g := a.grantsOf(what.User)
	if why, ok := g.cluster.allows(what); ok {
		return true, why, nil
	}
	if what.Namespace != "" {
		if why, ok := g.namespaces[what.Namespace].allows(what); ok {
			return true, why, nil
		}
	}
	if missing := g.missingIn(what.Namespace); missing != nil {
		return false, "RBAC: " + missing.Error(), nil
	}
	return false, "", nil
}

// RulesFor implements auth.RuleResolver. The order is that of the bindings'
// names, cluster scope first.
func (a *Authorizer) RulesFor(u auth.User, namespace string) ([]rbacv1.PolicyRule, error) {
	g := a.grantsOf(u)
	rules := slices.Clone(g.cluster.rules)
	if namespace != "" && g.namespaces[namespace] != nil {
		rules = append(rules, g.namespaces[namespace].rules...)
	}
	return rules, g.missingIn(namespace)
}

// RulesOf are the rules of the role that a binding in a namespace refers to.
func (a *Authorizer) RulesOf(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	i, key := a.clusterRoles, api.ClusterRoles.Key("", ref.Name)
	if ref.Kind == api.Roles.Kind {
		i, key = a.roles, api.Roles.Key(namespace, ref.Name)
	}
	obj, _ := i.Get(key)
	switch role := obj.(type) {
	case *rbacv1.Role:
		return role.Rules, nil
	case *rbacv1.ClusterRole:
		return role.Rules, nil
	}
	return nil, fmt.Errorf("%s.%s %q not found", strings.ToLower(ref.Kind), rbacv1.GroupName, ref.Name)
}

// grantsOf returns what a user's bindings grant, compiled.
func (a *Authorizer) grantsOf(u auth.User) *grants {
	if a.informers == nil {
		return &grants{cluster: &ruleSet{}}
	}
	now, name := a.changes.Load(), subjectName(u)
	a.mu.Lock()
	known := a.compiled[name]
	a.mu.Unlock()
	if known != nil && known.at == now {
		return known
	}
	made := a.compile(u, now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.compiled) >= maxCompiled {
		clear(a.compiled)
	}
	a.compiled[name] = made
	return made
}

func subjectName(u auth.User) string { return u.Name + "\x00" + strings.Join(u.Groups, "\x00") }

// compile collects what is granted to a user and to each of their groups. The
// count of changes is read before the informers: what changes meanwhile makes
// the result stale, never wrong for good.
func (a *Authorizer) compile(u auth.User, at uint64) *grants {
	g := &grants{at: at, cluster: &ruleSet{}, namespaces: map[string]*ruleSet{}, missing: map[string][]error{}}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: u.Name}}
	for _, group := range u.Groups {
		subjects = append(subjects, rbacv1.Subject{Kind: rbacv1.GroupKind, Name: group})
	}
	for _, s := range subjects {
		value := s.Kind + "/" + s.Name
		for _, obj := range sorted(a.clusterBindings.ByIndex(bySubject, value)) {
			a.grant(g, g.cluster, obj, s)
		}
		for _, obj := range sorted(a.bindings.ByIndex(bySubject, value)) {
			set := g.namespaces[obj.GetNamespace()]
			if set == nil {
				set = &ruleSet{}
				g.namespaces[obj.GetNamespace()] = set
			}
			a.grant(g, set, obj, s)
		}
	}
	return g
}

func sorted(objs []api.Object) []api.Object {
	slices.SortFunc(objs, func(x, y api.Object) int {
		return strings.Compare(x.GetNamespace()+"/"+x.GetName(), y.GetNamespace()+"/"+y.GetName())
	})
	return objs
}

// grant adds the rules of one binding.
func (a *Authorizer) grant(g *grants, set *ruleSet, binding api.Object, to rbacv1.Subject) {
	ref, _ := bindingOf(binding)
	rules, err := a.RulesOf(ref, binding.GetNamespace())
	if err != nil {
		g.missing[binding.GetNamespace()] = append(g.missing[binding.GetNamespace()], err)
		return
	}
	kind, name := "ClusterRoleBinding", fmt.Sprintf("%q", binding.GetName())
	if binding.GetNamespace() != "" {
		kind, name = "RoleBinding", fmt.Sprintf("%q", binding.GetName()+"/"+binding.GetNamespace())
	}
	set.add(rules, fmt.Sprintf("RBAC: allowed by %s %s of %s %q to %s", kind, name, ref.Kind, ref.Name, describe(to)))
}

func describe(s rbacv1.Subject) string {
	if namespace, name, ok := auth.SplitServiceAccount(s.Name); ok && s.Kind == rbacv1.UserKind {
		return fmt.Sprintf("%s %q", rbacv1.ServiceAccountKind, name+"/"+namespace)
	}
	return fmt.Sprintf("%s %q", s.Kind, s.Name)
}

// grants are what a user's bindings grant, by where.
type grants struct {
	at         uint64
	cluster    *ruleSet
	namespaces map[string]*ruleSet
	missing    map[string][]error // roles that bindings refer to in vain, by namespace
}

// missingIn are the gaps that concern a namespace.
func (g *grants) missingIn(namespace string) error {
	all := slices.Clone(g.missing[""])
	if namespace != "" {
		all = append(all, g.missing[namespace]...)
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	texts := make([]string, 0, len(all))
	for _, err := range all {
		texts = append(texts, err.Error())
	}
	return errors.New("[" + strings.Join(texts, ", ") + "]")
}
