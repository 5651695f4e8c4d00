// Package rbac decides by Roles and their bindings. An Authorizer follows the
// four kinds by watch and compiles, per user, what the bindings of their name
// and groups grant; Ensure gives a cluster the roles and bindings that every
// Kubernetes cluster has and keeps them complete. The rules are those of
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/.
package rbac
