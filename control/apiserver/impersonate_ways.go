package apiserver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/auth"
)

// authenticationGroup is where users and what belongs to them are resources, as
// far as leave to impersonate them is concerned.
const authenticationGroup = "authentication.k8s.io"

// impersonationWay is one of the ways to act as somebody else. All but the
// oldest, which has no name, need leave for the request too, by the verb
// impersonate-on:WAY:VERB, and do not lead to system:masters.
type impersonationWay struct {
	name string
	// fits says whom the way is for; nil: everybody.
	fits func(wanted, sender auth.User) bool
}

const associatedNode = "associated-node"

// impersonationWays are all of them, the narrowest first.
func impersonationWays() []impersonationWay {
	return []impersonationWay{
		{associatedNode, func(wanted, sender auth.User) bool {
			node, ok := nodeOf(wanted.Name)
			_, _, account := auth.SplitServiceAccount(sender.Name)
			return ok && account && onlyNamed(wanted) && slices.Equal(sender.Extra[auth.NodeNameExtra], []string{node})
		}},
		{"arbitrary-node", func(wanted, _ auth.User) bool {
			_, ok := nodeOf(wanted.Name)
			return ok && onlyNamed(wanted)
		}},
		{"serviceaccount", func(wanted, _ auth.User) bool {
			_, _, ok := auth.SplitServiceAccount(wanted.Name)
			return ok && onlyNamed(wanted)
		}},
		{"user-info", func(wanted, _ auth.User) bool {
			_, node := nodeOf(wanted.Name)
			_, _, account := auth.SplitServiceAccount(wanted.Name)
			return !node && !account
		}},
		{},
	}
}

func onlyNamed(u auth.User) bool { return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0 }

// nodeOf is the node that a user is.
func nodeOf(user string) (string, bool) {
	name, ok := strings.CutPrefix(user, auth.NodeUserPrefix)
	return name, ok && len(validation.NameIsDNSSubdomain(name, false)) == 0
}

// constraint is what the audit log says of the way.
func (w impersonationWay) constraint() string {
	if w.name == "" {
		return ""
	}
	return w.verb()
}

func (w impersonationWay) verb() string {
	if w.name == "" {
		return "impersonate"
	}
	return "impersonate:" + w.name
}

// impersonateBy returns the user as whom the request goes on, if the sender has
// leave for all of it.
func (c *call) impersonateBy(way impersonationWay, user auth.User) (auth.User, error) {
	if way.name != "" {
		on := c.attributes()
		on.Verb = "impersonate-on:" + way.name + ":" + on.Verb
		if err := c.refusal(on); err != nil {
			return user, err
		}
	}
	asked, err := c.leaveFor(way, user)
	if err != nil {
		return user, err
	}
	for _, a := range asked {
		if err := c.refusal(a); err != nil {
			return user, err
		}
	}
	if _, isNode := nodeOf(user.Name); isNode && way.name != "" {
		user.Groups = []string{auth.GroupNodes}
	}
	if namespace, _, ok := auth.SplitServiceAccount(user.Name); ok && len(user.Groups) == 0 {
		user.Groups = []string{auth.GroupServiceAccounts, auth.GroupServiceAccounts + ":" + namespace}
	}
	switch {
	case user.Name == auth.AnonymousUser:
		user.Groups = with(user.Groups, auth.GroupUnauthenticated)
	case !user.In(auth.GroupUnauthenticated):
		user.Groups = with(user.Groups, auth.GroupAuthenticated)
	}
	return user, nil
}

func with(groups []string, one string) []string {
	if slices.Contains(groups, one) {
		return groups
	}
	return append(slices.Clip(groups), one)
}

// leaveFor is what the sender must be allowed to act as the user.
func (c *call) leaveFor(way impersonationWay, user auth.User) ([]auth.Attributes, error) {
	may := auth.Attributes{User: c.user, Verb: way.verb()}
	if way.name != "" {
		may.Group = authenticationGroup
	}
	of := func(resource, name string) auth.Attributes {
		a := may
		a.Resource, a.Name = resource, name
		return a
	}
	first := of("users", user.Name)
	if node, ok := nodeOf(user.Name); ok && way.name != "" {
		first = of("nodes", node)
		if way.name == associatedNode {
			first.Name = "*" // whichever node the sender is on
		}
	}
	if namespace, name, ok := auth.SplitServiceAccount(user.Name); ok {
		first = of("serviceaccounts", name)
		first.Namespace = namespace
	}
	asked := []auth.Attributes{first}
	may.Group = authenticationGroup
	if user.UID != "" {
		asked = append(asked, of("uids", user.UID))
	}
	may.Group = first.Group
	if way.name != "" && slices.Contains(user.Groups, "") {
		return nil, forbidden(of("groups", ""), "impersonating the empty string group is not allowed")
	}
	if way.name != "" && slices.Contains(user.Groups, auth.GroupMasters) {
		return nil, forbidden(of("groups", auth.GroupMasters), "impersonating the system:masters group is not allowed")
	}
	for _, group := range user.Groups {
		asked = append(asked, of("groups", group))
	}
	may.Group = authenticationGroup
	if err := checkExtra(user.Extra); way.name != "" && err != nil {
		return nil, forbidden(of("userextras", ""), err.Error())
	}
	for _, key := range slices.Sorted(maps.Keys(user.Extra)) {
		for _, value := range user.Extra[key] {
			a := of("userextras", value)
			a.Subresource = key
			asked = append(asked, a)
		}
	}
	return asked, nil
}

// checkExtra holds extras to what the newer ways take.
func checkExtra(extra map[string][]string) error {
	for key, values := range extra {
		switch {
		case key == "":
			return errors.New("impersonating the empty string key in extra is not allowed")
		case len(values) == 0:
			return errors.New("impersonating empty values in extra is not allowed")
		case slices.Contains(values, ""):
			return errors.New("impersonating the empty string value in extra is not allowed")
		}
		if err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); err != nil {
			return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
		}
	}
	return nil
}

// refusal is the error that refuses leave, nil when it is given.
func (c *call) refusal(a auth.Attributes) error {
	allowed, reason, err := c.s.cfg.Authorizer.Authorize(c.r.Context(), a)
	if allowed {
		return nil
	}
	if err != nil {
		c.s.log.Error("authorization failed", "user", c.user.Name, "path", c.r.URL.Path, "error", err)
	}
	return forbidden(a, reason)
}

// forbidden is the error of what somebody may not do, with the reason if there
// is one.
func forbidden(a auth.Attributes, reason string) error {
	text := a.Describe()
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New(text))
}
