// Package oidc takes the tokens of OpenID Connect issuers outside of the
// cluster. Which issuers, and who somebody is by their claims, is said by
// settings or by a file of kind AuthenticationConfiguration, as
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens
// documents both. Tokens are judged by Kubernetes' own authenticator: who moves
// an issuer here finds the same users and groups.
package oidc
