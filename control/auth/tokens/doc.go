// Package tokens issues and checks JSON Web Tokens: those of service accounts,
// signed with the cluster's own keys and bound to what they were issued for,
// and those of an OpenID Connect issuer outside. It also publishes the
// cluster's keys, so that others can check its tokens. Tokens are RFC 7519 over
// RFC 7515; claims and bindings are those of
// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/.
package tokens
