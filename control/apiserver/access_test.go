package apiserver_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
)

var updateAccess = flag.Bool("update-access", false, "write testdata/access.txt anew")

// accessFile says what each kind of user may do with what is served.
const accessFile = "testdata/access.txt"

// sender is the header that says who sends a request of this test.
const sender = "X-Sender"

// people are the users of the table, in the order of its columns. The namespaced
// one may edit what is in the namespace team; the node has a pod there.
func people() []struct {
	name string
	user auth.User
} {
	return []struct {
		name string
		user auth.User
	}{
		{"anonymous", auth.Anonymous()},
		{"authenticated", auth.User{Name: "jane", Groups: []string{auth.GroupAuthenticated}}},
		{"namespaced", auth.User{Name: "dev", Groups: []string{auth.GroupAuthenticated}}},
		{"node", auth.User{Name: auth.NodeUserPrefix + "node-a", Groups: []string{auth.GroupNodes, auth.GroupAuthenticated}}},
		{"admin", auth.User{Name: auth.AdminUser, Groups: []string{auth.GroupMasters, auth.GroupAuthenticated}}},
	}
}

// byHeader believes what a request says about its sender.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request) (auth.User, bool, error) {
	for _, p := range people() {
		if p.name == r.Header.Get(sender) && p.user.In(auth.GroupAuthenticated) {
			return p.user, true, nil
		}
	}
	return auth.User{}, false, nil
}

// deaf is a client that answers every request that was let through with an error.
type deaf struct{ api.Client }

// methods are the HTTP methods of verbs, and whether they name an object.
var methods = []struct {
	verb, method, query string
	named               bool
}{
	{"get", http.MethodGet, "", true}, {"list", http.MethodGet, "", false}, {"watch", http.MethodGet, "watch=true&timeoutSeconds=1", false},
	{"create", http.MethodPost, "dryRun=All", false}, {"update", http.MethodPut, "dryRun=All", true}, {"patch", http.MethodPatch, "dryRun=All", true},
	{"delete", http.MethodDelete, "dryRun=All", true}, {"deletecollection", http.MethodDelete, "dryRun=All", false},
}

var errDeaf = apierrors.NewServiceUnavailable("let through")

func (deaf) Get(context.Context, api.Key, api.GetOptions) (api.Object, error)   { return nil, errDeaf }
func (deaf) List(context.Context, api.Key, api.ListOptions) (*api.List, error)  { return nil, errDeaf }
func (deaf) Watch(context.Context, api.Key, api.ListOptions) (api.Watch, error) { return nil, errDeaf }
func (deaf) Delete(context.Context, api.Key, api.DeleteOptions) (api.Object, error) {
	return nil, errDeaf
}
func (deaf) Create(context.Context, api.Key, api.Object, api.CreateOptions) (api.Object, error) {
	return nil, errDeaf
}
func (deaf) Update(context.Context, api.Key, api.Object, api.UpdateOptions) (api.Object, error) {
	return nil, errDeaf
}
func (deaf) Patch(context.Context, api.Key, api.Patch, api.PatchOptions) (api.Object, error) {
	return nil, errDeaf
}

// lets sends a request and tells whether its sender may do that. What the server
// says beyond that does not count.
func (c *cluster) lets(who, method, path, body string) bool {
	c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set(sender, who)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, r)
	answer, err := io.ReadAll(w.Result().Body)
	must(c.t, err)
	switch w.Code {
	case http.StatusForbidden:
		if !strings.Contains(string(answer), " cannot ") {
			c.t.Errorf("%s %s %s: forbidden without a reason: %s", who, method, path, answer)
		}
		return false
	case http.StatusUnauthorized:
		c.t.Errorf("%s %s %s: %s", who, method, path, answer)
	}
	return true
}

// accessLine is a line of the table: who may do what with one path.
func (c *cluster) accessLine(name string, verbs []string, path func(named bool) string, body string) string {
	line := fmt.Sprintf("%-66s", name)
	for _, p := range people() {
		var may string
		for _, m := range methods {
			letter := m.verb[:1]
			if m.verb == "deletecollection" {
				letter = "D"
			}
			if !slices.Contains(verbs, m.verb) {
				continue
			}
			at := path(m.named)
			if m.query != "" {
				at += "?" + m.query
			}
			sent := body
			if m.verb == "patch" || m.method == http.MethodGet || m.method == http.MethodDelete {
				sent = "{}"
			}
			if m.method == http.MethodGet || m.method == http.MethodDelete {
				sent = ""
			}
			if c.lets(p.name, m.method, at, sent) {
				may += letter
			}
		}
		if may == "" {
			may = "-"
		}
		line += fmt.Sprintf(" %-13s", may)
	}
	return strings.TrimRight(line, " ") + "\n"
}

// furnish makes what the table's users have: dev may edit in the namespace team,
// and a pod of node-a there refers to things named x.
func (c *cluster) furnish() {
	c.t.Helper()
	put := func(r api.Resource, obj api.Object) {
		c.t.Helper()
		_, err := c.registry.Create(c.t.Context(), r.KeyOf(obj), obj, api.CreateOptions{})
		must(c.t, err)
	}
	in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "team", Name: name} }
	put(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	// The role edit is put together of these by a controller.
	for _, role := range []string{"system:aggregate-to-edit", "system:aggregate-to-view"} {
		put(api.RoleBindings, &rbacv1.RoleBinding{ObjectMeta: in(role), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "dev"}}})
	}
	for name, node := range map[string]string{"x": "node-a", "y": "node-b"} {
		put(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: in(name)})
		put(api.Pods, &corev1.Pod{ObjectMeta: in(name), Spec: corev1.PodSpec{NodeName: node, ServiceAccountName: name,
			Containers: []corev1.Container{{Name: "c", Image: "i", EnvFrom: []corev1.EnvFromSource{
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}}}})
	}
}

// newAccessCluster is a cluster that believes in headers and answers nothing.
func newAccessCluster(t *testing.T) *cluster {
	c := newCluster(t, func(cfg *apiserver.Config) {
		cfg.Authenticator = auth.Chain(byHeader{})
		cfg.Client = deaf{cfg.Client}
	})
	c.furnish()
	// The roles' informer may be a moment behind.
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if c.lets("namespaced", http.MethodPost, "/api/v1/namespaces/team/configmaps", "{}") && c.lets("namespaced", http.MethodGet, "/apis/apps/v1/namespaces/team/deployments/x/status", "") {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal("the bindings of the roles never counted")
		}
	}
}

// TestAccess holds who may do what with everything that is served against
// testdata/access.txt (-update-access writes it).
func TestAccess(t *testing.T) {
	c := newAccessCluster(t)
	var b strings.Builder
	b.WriteString("# What may be done with what is served: get, list, watch, create, update, patch, delete, Delete all of them.\n" +
		"# Namespaced is a user with the role edit in the namespace that is asked about; objects are called x, and a pod x of the\n" +
		"# node refers to the Secret, the ConfigMap, the claim and the account x. TestAccess writes this file with -update-access.\n")
	fmt.Fprintf(&b, "%-66s", "#")
	for _, p := range people() {
		fmt.Fprintf(&b, " %-13s", p.name)
	}
	text := strings.TrimRight(b.String(), " ") + "\n"
	for _, res := range c.registry.Catalog().Resources() {
		base := "/apis/" + res.GroupVersion()
		if res.Group == "" {
			base = "/api/" + res.Version
		}
		meta, name := `"metadata":{"name":"x"}`, "x"
		if res.Name == api.Nodes.Name {
			name, meta = "node-a", `"metadata":{"name":"node-a"}`
		}
		if res.Namespaced {
			base += "/namespaces/team"
		}
		path := func(named bool) string {
			if named {
				return base + "/" + res.Name + "/" + name
			}
			return base + "/" + res.Name
		}
		body := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,%s}`, res.GroupVersion(), res.Kind, meta)
		title := res.Name + "." + res.GroupVersion()
		text += c.accessLine(title, res.AllVerbs(), path, body)
		for _, sub := range res.Subresources {
			text += c.accessLine("  "+res.Name+"/"+sub.Name, sub.Verbs, func(bool) string { return path(true) + "/" + sub.Name }, body)
		}
	}
	for _, at := range []string{"/healthz", "/livez", "/readyz", "/version", "/api", "/apis", "/openapi/v2", "/openapi/v3", "/metrics", "/logs", "/debug/pprof/"} {
		text += c.accessLine(at, []string{"get"}, func(bool) string { return at }, "")
	}
	if *updateAccess {
		must(t, os.WriteFile(accessFile, []byte(text), 0o644))
	}
	want, err := os.ReadFile(accessFile)
	must(t, err)
	lines := strings.Split(string(want), "\n")
	for i, line := range strings.Split(text, "\n") {
		if i >= len(lines) || line != lines[i] {
			old := ""
			if i < len(lines) {
				old = lines[i]
			}
			t.Errorf("line %d is\n%s\nbut %s says\n%s", i+1, line, accessFile, old)
		}
	}
}

// TestNodesKeepToThemselves: a node can neither see nor touch what belongs to
// the pods of another one. Which Nodes and pods it may write is NodeRestriction's
// to judge, which the package of admission tests.
func TestNodesKeepToThemselves(t *testing.T) {
	c := newAccessCluster(t)
	const ns = "/api/v1/namespaces/team"
	for _, test := range []struct {
		method, path, body string
		want               bool
	}{
		{http.MethodGet, ns + "/pods/x", "", true},
		{http.MethodGet, ns + "/pods/y", "", false},
		{http.MethodPatch, ns + "/pods/x/status", "{}", true},
		{http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a", "", true},
		{http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-b", "", false},
		{http.MethodGet, "/api/v1/pods", "", false},
		{http.MethodGet, "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dnode-b", "", false},
		{http.MethodGet, ns + "/secrets/x", "", true},
		{http.MethodGet, ns + "/secrets/y", "", false},
		{http.MethodGet, ns + "/secrets", "", false},
		{http.MethodGet, "/api/v1/secrets?watch=true", "", false},
		{http.MethodGet, ns + "/secrets?fieldSelector=metadata.name%3Dx", "", true},
		{http.MethodGet, ns + "/secrets?fieldSelector=metadata.name%3Dy", "", false},
		{http.MethodGet, "/api/v1/namespaces/default/secrets/x", "", false},
		{http.MethodPut, ns + "/secrets/x", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, false},
		{http.MethodGet, ns + "/configmaps/y", "", false},
		{http.MethodGet, ns + "/persistentvolumeclaims/y", "", false},
		{http.MethodPost, ns + "/serviceaccounts/x/token", `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest"}`, true},
		{http.MethodPost, ns + "/serviceaccounts/y/token", `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest"}`, false},
		{http.MethodGet, "/api/v1/namespaces", "", false},
		{http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-b", `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"node-b"}}`, false},
		{http.MethodGet, ns + "/pods/y/log", "", false},
		{http.MethodPost, ns + "/pods/x/exec?command=sh", "", false},
		{http.MethodPost, ns + "/pods/x/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"x"}}`, true}, // last: x is gone then
	} {
		if got := c.lets("node", test.method, test.path, test.body); got != test.want {
			t.Errorf("%s %s: %t, want %t", test.method, test.path, got, test.want)
		}
	}
}
