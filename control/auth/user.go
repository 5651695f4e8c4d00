package auth

import (
	"context"
	"slices"
	"strings"
)

// The names that Kubernetes reserves for users and groups.
const (
	AnonymousUser        = "system:anonymous"
	GroupUnauthenticated = "system:unauthenticated"
	GroupAuthenticated   = "system:authenticated"
	GroupMasters         = "system:masters"
	GroupNodes           = "system:nodes"
	// GroupBootstrappers has those who come with a bootstrap token: nodes that join.
	GroupBootstrappers = "system:bootstrappers"
	// NodeUserPrefix followed by a node's name is the user of that node.
	NodeUserPrefix = "system:node:"
	// AdminUser is the user of admin.kubeconfig.
	AdminUser = "kubernetes-admin"
)

// What the extras of a user say of the credentials.
const (
	// CredentialIDExtra names the certificate or token.
	CredentialIDExtra = "authentication.kubernetes.io/credential-id"
	// NodeNameExtra is the node of the pod that a token is bound to.
	NodeNameExtra = "authentication.kubernetes.io/node-name"
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

// The names of service accounts as users, as Kubernetes makes them.
const (
	serviceAccountPrefix = "system:serviceaccount:"
	// GroupServiceAccounts has all service accounts; with a colon and a
	// namespace after it, those of the namespace.
	GroupServiceAccounts = "system:serviceaccounts"
)

// ServiceAccountUser is the name of the user that a service account is.
func ServiceAccountUser(namespace, name string) string {
	return serviceAccountPrefix + namespace + ":" + name
}

// SplitServiceAccount takes such a name apart; ok is false for other users.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}
