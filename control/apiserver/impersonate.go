package apiserver

import (
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/auth"
)

const (
	impersonatePrefix = "Impersonate-"
	impersonateExtra  = "Impersonate-Extra-"
	// authenticationGroup is where the uids and extras of users are resources,
	// as far as leave to impersonate them is concerned.
	authenticationGroup = "authentication.k8s.io"
)

// impersonate acts on kubectl's --as, --as-group and --as-uid: each of what is
// asked for needs leave of its own
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation).
// To ignore them would run the request with more rights than its sender asked
// for.
func (c *call) impersonate() error {
	header := c.r.Header
	user := auth.User{Name: header.Get("Impersonate-User"), UID: header.Get("Impersonate-Uid")}
	if user.Name == "" {
		for name := range header {
			if strings.HasPrefix(name, impersonatePrefix) {
				return apierrors.NewBadRequest(name + " is of no use without Impersonate-User: say whom to impersonate")
			}
		}
		return nil
	}
	asked := []auth.Attributes{{Resource: "users", Name: user.Name}}
	namespace, account, isAccount := auth.SplitServiceAccount(user.Name)
	if isAccount {
		asked[0] = auth.Attributes{Resource: "serviceaccounts", Namespace: namespace, Name: account}
	}
	for _, group := range header.Values("Impersonate-Group") {
		user.Groups = append(user.Groups, group)
		asked = append(asked, auth.Attributes{Resource: "groups", Name: group})
	}
	if user.UID != "" {
		asked = append(asked, auth.Attributes{Group: authenticationGroup, Resource: "uids", Name: user.UID})
	}
	for name, values := range header {
		escaped, ok := strings.CutPrefix(name, impersonateExtra)
		if !ok {
			continue
		}
		key, err := url.PathUnescape(strings.ToLower(escaped))
		if err != nil {
			return apierrors.NewBadRequest(name + ": " + err.Error())
		}
		for _, value := range values {
			asked = append(asked, auth.Attributes{Group: authenticationGroup, Resource: "userextras", Subresource: key, Name: value})
		}
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra[key] = values
	}
	for _, a := range asked {
		a.User, a.Verb = c.user, "impersonate"
		if err := c.permit(a); err != nil {
			return err
		}
	}
	if isAccount && len(user.Groups) == 0 {
		user.Groups = []string{auth.GroupServiceAccounts, auth.GroupServiceAccounts + ":" + namespace}
	}
	own := auth.GroupAuthenticated
	if user.Name == auth.AnonymousUser {
		own = auth.GroupUnauthenticated
	}
	if !user.In(own) {
		user.Groups = append(user.Groups, own)
	}
	c.user = user
	return nil
}
