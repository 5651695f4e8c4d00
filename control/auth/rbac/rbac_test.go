package rbac_test

import (
	"context"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/auth/rbac"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// bed is the real registry whose access rules an Authorizer follows.
type bed struct {
	*testing.T
	api   *registry.Registry
	roles *rbac.Authorizer
}

func newBed(t testing.TB) *bed {
	t.Helper()
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	s := store.New(store.NewMemory(), store.Options{})
	run(t, s.Run)
	b := &bed{roles: rbac.New(nil)}
	b.T, _ = t.(*testing.T)
	reviews := &auth.Reviews{Authorizer: b.roles, Rules: b.roles}
	b.api, err = registry.New(registry.Config{Store: s, Types: types, Reviews: reviews.Answer,
		Admission: admission.New(admission.Config{Authorizer: b.roles, Roles: b.roles})})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.api.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := rbac.Ensure(t.Context(), b.api); err != nil {
		t.Fatal(err)
	}
	b.roles.Follow(b.api)
	run(t, b.roles.Run)
	if err := b.roles.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (b *bed) create(res api.Resource, obj api.Object) {
	b.Helper()
	if _, err := b.api.Create(b.Context(), res.KeyOf(obj), obj, api.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// may asks until the answer is the wanted one: rules follow by watch.
func (b *bed) may(u auth.User, a auth.Attributes, want bool) (reason string) {
	b.Helper()
	a.User = u
	for start := time.Now(); ; {
		got, reason, err := b.roles.Authorize(b.Context(), a)
		if err != nil {
			b.Fatal(err)
		}
		if got == want {
			return reason
		}
		if time.Since(start) > 2*time.Minute {
			b.Fatalf("%s: allowed %v, want %v", a.Describe(), got, want)
		}
	}
}

// knows waits until a role that was just written is known.
func (b *bed) knows(namespace, name string) {
	b.Helper()
	for start := time.Now(); ; {
		_, err := b.roles.RulesOf(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}, namespace)
		if err == nil {
			return
		}
		if time.Since(start) > 2*time.Minute {
			b.Fatal(err)
		}
	}
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: rules}
}

func bind(namespace, name, kind, to string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{Kind: kind, Name: to}}
}

func rule(verbs, group, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: []string{group}, Resources: strings.Fields(resources), ResourceNames: names}
}

func known(name string, groups ...string) auth.User {
	return auth.User{Name: name, Groups: append(groups, auth.GroupAuthenticated)}
}

func ask(verb, group, resource, namespace, name string) auth.Attributes {
	resource, sub, _ := strings.Cut(resource, "/")
	return auth.Attributes{Verb: verb, Group: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name}
}

func TestBindingsGrant(t *testing.T) {
	b := newBed(t)
	b.create(api.Roles, role("default", "reader", rule("get list", "", "pods */scale configmaps")))
	b.create(api.Roles, role("default", "one", rule("get", "", "secrets", "mine")))
	b.create(api.RoleBindings, bind("default", "read", "Role", "reader",
		rbacv1.Subject{Kind: "User", Name: "jane"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "robot"}))
	b.create(api.RoleBindings, bind("default", "one", "Role", "one", rbacv1.Subject{Kind: "Group", Name: "team"}))
	b.create(api.RoleBindings, bind("default", "viewers", "ClusterRole", "system:aggregate-to-view", rbacv1.Subject{Kind: "User", Name: "victor"}))
	jane, robot := known("jane"), known(auth.ServiceAccountUser("default", "robot"), auth.GroupServiceAccounts)

	reason := b.may(jane, ask("get", "", "pods", "default", "x"), true)
	if want := `RBAC: allowed by RoleBinding "read/default" of Role "reader" to User "jane"`; reason != want {
		t.Errorf("reason %q, want %q", reason, want)
	}
	if reason := b.may(robot, ask("list", "", "configmaps", "default", ""), true); !strings.HasSuffix(reason, `to ServiceAccount "robot/default"`) {
		t.Errorf("reason %q", reason)
	}
	b.may(jane, ask("get", "", "deployments/scale", "default", "x"), true)
	b.may(jane, ask("get", "", "deployments", "default", "x"), false)
	b.may(jane, ask("get", "", "pods", "kube-system", "x"), false)
	b.may(jane, ask("get", "", "pods", "", ""), false)
	b.may(jane, ask("get", "apps", "pods", "default", "x"), false)
	b.may(jane, ask("get", "", "pods/log", "default", "x"), false)
	b.may(jane, ask("delete", "", "pods", "default", "x"), false)
	b.may(known("x", "team"), ask("get", "", "secrets", "default", "mine"), true)
	b.may(known("x", "team"), ask("get", "", "secrets", "default", "yours"), false)
	b.may(known("x", "team"), ask("list", "", "secrets", "default", ""), false)
	b.may(known("victor"), ask("watch", "apps", "deployments", "default", ""), true)
	b.may(known("victor"), ask("get", "", "secrets", "default", "x"), false)
	b.may(known("root", auth.GroupMasters), ask("delete", "", "nodes", "", "a"), true)
	b.may(known("root", auth.GroupMasters), auth.Attributes{Verb: "get", Path: "/metrics"}, true)
	b.may(auth.Anonymous(), auth.Attributes{Verb: "get", Path: "/livez"}, true)
	b.may(auth.Anonymous(), auth.Attributes{Verb: "get", Path: "/apis"}, false)
	b.may(jane, auth.Attributes{Verb: "get", Path: "/apis/apps/v1"}, true)
	b.may(jane, auth.Attributes{Verb: "post", Path: "/apis"}, false)

	key := api.RoleBindings.Key("default", "read")
	if _, err := b.api.Delete(t.Context(), key, api.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.may(jane, ask("get", "", "pods", "default", "x"), false)
	b.create(api.RoleBindings, bind("default", "dangling", "Role", "nosuch", rbacv1.Subject{Kind: "User", Name: "jane"}))
	for start := time.Now(); ; {
		reason := b.may(jane, ask("get", "", "pods", "default", "x"), false)
		if reason == `RBAC: role.rbac.authorization.k8s.io "nosuch" not found` {
			break
		}
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("a missing role is not named: %q", reason)
		}
	}
}

// What somebody has taken from the default roles comes back; what they have
// added stays; what is marked as theirs is left alone.
func TestEnsureRestores(t *testing.T) {
	b := newBed(t)
	change := func(name string, f func(*rbacv1.ClusterRole)) {
		t.Helper()
		old, err := api.Get[*rbacv1.ClusterRole](t.Context(), b.api, api.ClusterRoles.Key("", name))
		if err != nil {
			t.Fatal(err)
		}
		changed := old.DeepCopy()
		f(changed)
		if _, err := b.api.Update(t.Context(), api.ClusterRoles.Key("", name), changed, api.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	own := rule("get", "", "nodes")
	change("system:discovery", func(r *rbacv1.ClusterRole) { r.Rules = nil })
	change("system:basic-user", func(r *rbacv1.ClusterRole) { r.Rules = append(r.Rules, own) })
	change("system:monitoring", func(r *rbacv1.ClusterRole) {
		r.Rules, r.Annotations["rbac.authorization.kubernetes.io/autoupdate"] = nil, "false"
	})
	before := revision(b, "system:basic-user")
	if err := rbac.Ensure(t.Context(), b.api); err != nil {
		t.Fatal(err)
	}
	b.may(known("jane"), auth.Attributes{Verb: "get", Path: "/api"}, true)
	b.may(known("jane"), ask("get", "", "nodes", "", "a"), true)
	b.may(known("m", "system:monitoring"), auth.Attributes{Verb: "get", Path: "/metrics"}, false)
	if after := revision(b, "system:basic-user"); after != before {
		t.Errorf("a complete role was written again: %s, then %s", before, after)
	}
}

func revision(b *bed, name string) string {
	b.Helper()
	role, err := api.Get[*rbacv1.ClusterRole](b.Context(), b.api, api.ClusterRoles.Key("", name))
	if err != nil {
		b.Fatal(err)
	}
	return role.ResourceVersion
}

func TestNobodyGrantsMoreThanTheyHave(t *testing.T) {
	b := newBed(t)
	jane := known("jane")
	b.create(api.Roles, role("default", "manager", rule("*", rbacv1.GroupName, "roles rolebindings"), rule("get list", "", "pods")))
	b.create(api.Roles, role("default", "secret", rule("get", "", "secrets")))
	b.create(api.RoleBindings, bind("default", "jane", "Role", "manager", rbacv1.Subject{Kind: "User", Name: "jane"}))
	b.may(jane, ask("get", "", "pods", "default", "x"), true)
	ctx := auth.WithUser(t.Context(), jane)
	try := func(what string, res api.Resource, obj api.Object, want string) {
		t.Helper()
		_, err := b.api.Create(ctx, res.KeyOf(obj), obj, api.CreateOptions{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	// The star of her own role covers the verbs "escalate" and "bind" of roles.
	try("all verbs cover escalate", api.Roles, role("default", "more", rule("get", "", "secrets")), "")
	narrow := rule("create update get list", rbacv1.GroupName, "roles rolebindings")
	manager, err := api.Get[*rbacv1.Role](t.Context(), b.api, api.Roles.Key("default", "manager"))
	if err != nil {
		t.Fatal(err)
	}
	changed := manager.DeepCopy()
	changed.Rules[0] = narrow
	if _, err := b.api.Update(t.Context(), api.Roles.Key("default", "manager"), changed, api.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.may(jane, ask("escalate", rbacv1.GroupName, "roles", "default", "x"), false)
	try("what she has", api.Roles, role("default", "same", rule("get", "", "pods")), "")
	try("what she lacks", api.Roles, role("default", "lacks", rule("delete get", "", "pods secrets")),
		`roles.rbac.authorization.k8s.io "lacks" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:`+"\n"+
			`{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`+"\n"+`{APIGroups:[""], Resources:["secrets"], Verbs:["delete" "get"]}`)
	try("binds what she lacks", api.RoleBindings, bind("default", "grab", "Role", "secret", rbacv1.Subject{Kind: "User", Name: "jane"}), "not currently held")
	try("binds what is not there", api.RoleBindings, bind("default", "none", "Role", "nosuch", rbacv1.Subject{Kind: "User", Name: "jane"}), `"nosuch" not found`)
	b.knows("default", "same")
	try("binds what she has", api.RoleBindings, bind("default", "share", "Role", "same", rbacv1.Subject{Kind: "User", Name: "joe"}), "")
	try("aggregates", api.ClusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "agg"}, AggregationRule: &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{}}}}, `{APIGroups:["*"], Resources:["*"], Verbs:["*"]}`)
}

func BenchmarkAuthorize(b *testing.B) {
	bed := newBed(b)
	u := known("system:serviceaccount:kube-system:generic-garbage-collector")
	a := ask("list", "apps", "deployments", "default", "")
	a.User = u
	for b.Loop() {
		if ok, _, _ := bed.roles.Authorize(b.Context(), a); !ok {
			b.Fatal("refused")
		}
	}
}

// TestDefaultRoles holds some of the roles to Kubernetes' own, in the order of
// their rules, and to what is made of them.
func TestDefaultRoles(t *testing.T) {
	b := newBed(t)
	for _, test := range []struct {
		name   string
		rules  int
		verbs  string
		of     string
		number int
	}{
		{"cluster-admin", 2, "*", "*", 0},
		{"system:aggregate-to-edit", 15, "create,delete,deletecollection,patch,update", "events", 6},
		{"system:controller:endpoint-controller", 4, "create,delete,get,list,update,watch", "endpoints", 1},
		{"system:controller:volumeattributesclass-protection-controller", 4, "get,list,update,watch", "volumeattributesclasses", 2},
		{"system:monitoring", 2, "get", "/flagz", 0},
	} {
		role, err := api.Get[*rbacv1.ClusterRole](b.Context(), b.api, api.ClusterRoles.Key("", test.name))
		if err != nil {
			b.Fatal(err)
		}
		if len(role.Rules) != test.rules {
			t.Errorf("%s has %d rules, want %d: %v", test.name, len(role.Rules), test.rules, role.Rules)
			continue
		}
		r := role.Rules[test.number]
		if got := strings.Join(r.Verbs, ","); got != test.verbs || append(r.Resources, r.NonResourceURLs...)[0] != test.of {
			t.Errorf("%s, rule %d: %v", test.name, test.number, r)
		}
	}
	bound, err := api.Get[*rbacv1.ClusterRoleBinding](b.Context(), b.api, api.ClusterRoleBindings.Key("", "system:controller:service-cidrs-controller"))
	if err != nil || len(bound.Subjects) != 1 || bound.Subjects[0].Name != "service-cidrs-controller" {
		t.Errorf("a controller's binding: %v, %v", bound, err)
	}
}
