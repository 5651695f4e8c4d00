package apiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/auth"
)

const (
	impersonateUser  = "Impersonate-User"
	impersonateGroup = "Impersonate-Group"
	impersonateUID   = "Impersonate-Uid"
	impersonateExtra = "Impersonate-Extra-"
)

// maxSenders bounds for how many senders it is remembered how they impersonate.
const maxSenders = 4096

// impersonate acts on kubectl's --as, --as-group and --as-uid: each of what is
// asked for needs leave of its own, in one of the ways that there are
// (https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/).
// To ignore them would run the request with more rights than its sender asked
// for.
func (c *call) impersonate() error {
	wanted, err := impersonated(c.r.Header)
	if wanted == nil || err != nil {
		return err
	}
	// What has worked for the sender before is asked first: it needs the fewest
	// questions.
	last := c.s.lastWay.Keep([]byte(c.user.Name), new(atomic.Int32))
	order := []int{int(last.Load())}
	for i := range impersonationWays() {
		if i != order[0] {
			order = append(order, i)
		}
	}
	var denied error
	for _, i := range order {
		way := impersonationWays()[i]
		if way.fits != nil && !way.fits(*wanted, c.user) {
			continue
		}
		user, err := c.impersonateBy(way, *wanted)
		if err == nil {
			last.Store(int32(i))
			c.user, c.trail.constraint = user, way.constraint()
			return nil
		}
		if denied == nil {
			denied = err
		}
	}
	return denied
}

// impersonated is the user whom the headers ask for, nil when they ask for none.
func impersonated(header http.Header) (*auth.User, error) {
	user := &auth.User{Name: header.Get(impersonateUser), UID: header.Get(impersonateUID), Groups: slices.Clone(header.Values(impersonateGroup))}
	asked := user.Name != "" || user.UID != "" || len(user.Groups) > 0
	for name, values := range header {
		escaped, ok := strings.CutPrefix(name, impersonateExtra)
		if !ok {
			continue
		}
		key := strings.ToLower(escaped)
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra[key], asked = append(user.Extra[key], values...), true
	}
	switch {
	case !asked:
		return nil, nil
	case user.Name == "":
		return nil, apierrors.NewBadRequest(fmt.Sprintf("requested &user.DefaultInfo{Name:%q, UID:%q, Groups:%#v, Extra:%#v} without impersonating a user name",
			user.Name, user.UID, user.Groups, user.Extra))
	}
	return user, nil
}
