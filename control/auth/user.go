package auth

import (
	"context"
	"slices"
)

// The names that Kubernetes reserves for users and groups.
const (
	AnonymousUser        = "system:anonymous"
	GroupUnauthenticated = "system:unauthenticated"
	GroupAuthenticated   = "system:authenticated"
	GroupMasters         = "system:masters"
	GroupNodes           = "system:nodes"
	// NodeUserPrefix followed by a node's name is the user of that node.
	NodeUserPrefix = "system:node:"
	// AdminUser is the user of admin.kubeconfig.
	AdminUser = "kubernetes-admin"
)

// User is who sends a request.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// In tells whether the user belongs to a group.
func (u User) In(group string) bool { return slices.Contains(u.Groups, group) }

// Anonymous is the user of a request without credentials.
func Anonymous() User { return User{Name: AnonymousUser, Groups: []string{GroupUnauthenticated}} }

// Admin is the user who may do everything.
func Admin() User { return User{Name: AdminUser, Groups: []string{GroupMasters}} }

// NodeUser is the user of the agent of a node.
func NodeUser(node string) User {
	return User{Name: NodeUserPrefix + node, Groups: []string{GroupNodes}}
}

type userKey struct{}

// WithUser returns a context that carries the sender of the request.
func WithUser(ctx context.Context, u User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom returns the sender of the request in ctx. ok is false in contexts
// that belong to no request, such as those of controllers in process.
func UserFrom(ctx context.Context) (u User, ok bool) {
	u, ok = ctx.Value(userKey{}).(User)
	return u, ok
}
