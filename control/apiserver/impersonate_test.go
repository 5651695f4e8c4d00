package apiserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
)

// leaves allows what is listed, written VERB RESOURCE[/SUBRESOURCE].GROUP/NAME,
// and says of those whom it acts as who they are.
type leaves map[string]bool

func (l leaves) Authorize(_ context.Context, a auth.Attributes) (bool, string, error) {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	if a.User.Name != "agent" {
		return false, fmt.Sprintf("you are %q %q %q %q", a.User.Name, a.User.UID, a.User.Groups, a.User.Extra), nil
	}
	return l[a.Verb+" "+resource+"."+a.Group+"/"+a.Name], "", nil
}

// TestConstrainedImpersonation: what each of the ways to act as somebody asks
// for, and whom it makes of the sender.
func TestConstrainedImpersonation(t *testing.T) {
	const authn = ".authentication.k8s.io/"
	for _, test := range []struct {
		name    string
		may     []string
		headers []string
		want    string
	}{
		{"a node", []string{"impersonate-on:arbitrary-node:list configmaps./", "impersonate:arbitrary-node nodes" + authn + "n"},
			[]string{"Impersonate-User: system:node:n"}, `you are "system:node:n" "" ["system:nodes" "system:authenticated"] map[]`},
		{"another node", []string{"impersonate-on:arbitrary-node:list configmaps./", "impersonate:arbitrary-node nodes" + authn + "m"},
			[]string{"Impersonate-User: system:node:n"}, `cannot impersonate:arbitrary-node resource "nodes" in API group "authentication.k8s.io"`},
		{"a node, but not for that", []string{"impersonate:arbitrary-node nodes" + authn + "n"},
			[]string{"Impersonate-User: system:node:n"}, `cannot impersonate-on:arbitrary-node:list resource "configmaps"`},
		{"an account", []string{"impersonate-on:serviceaccount:list configmaps./", "impersonate:serviceaccount serviceaccounts" + authn + "x"},
			[]string{"Impersonate-User: system:serviceaccount:team:x"}, `["system:serviceaccounts" "system:serviceaccounts:team" "system:authenticated"]`},
		{"a user with all", []string{"impersonate-on:user-info:list configmaps./", "impersonate:user-info users" + authn + "u",
			"impersonate:user-info groups" + authn + "g", "impersonate:user-info uids" + authn + "7", "impersonate:user-info userextras/acme.com/scopes" + authn + "s"},
			[]string{"Impersonate-User: u", "Impersonate-Group: g", "Impersonate-Uid: 7", "Impersonate-Extra-Acme.com%2Fscopes: s"},
			`you are "u" "7" ["g" "system:authenticated"] map["acme.com/scopes":["s"]]`},
		{"an administrator", []string{"impersonate-on:user-info:list configmaps./", "impersonate:user-info users" + authn + "u",
			"impersonate:user-info groups" + authn + "system:masters"},
			[]string{"Impersonate-User: u", "Impersonate-Group: system:masters"}, "impersonating the system:masters group is not allowed"},
		{"an administrator, the old way", []string{"impersonate users./u", "impersonate groups./system:masters"},
			[]string{"Impersonate-User: u", "Impersonate-Group: system:masters"}, `["system:masters" "system:authenticated"]`},
		{"anonymous", []string{"impersonate users./system:anonymous"}, []string{"Impersonate-User: system:anonymous"}, `["system:unauthenticated"]`},
		{"an extra that is none", []string{"impersonate users./u", "impersonate userextras/%zz" + authn + "q"},
			[]string{"Impersonate-User: u", "Impersonate-Extra-%ZZ: q"}, `map["%zz":["q"]]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			may := leaves{}
			for _, one := range test.may {
				may[one] = true
			}
			c := newCluster(t, func(config *apiserver.Config) { config.Authorizer = may })
			client := c.http(c.tlsFor(auth.User{Name: "agent"}))
			got := c.ask(client, "GET", maps, "", test.headers...)
			if want := strings.ReplaceAll(test.want, `"`, `\"`); got.code != 403 || !strings.Contains(got.body, want) {
				t.Errorf("got %d %s, want 403 %s", got.code, got.body, want)
			}
		})
	}
}
