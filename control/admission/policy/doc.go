// Package policy lets ValidatingAdmissionPolicies and MutatingAdmissionPolicies
// judge requests
// (https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/,
// https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/).
// Policies and bindings are read anew for each request, so that one counts from
// the moment at which it is stored; what was compiled of them is kept for as
// long as they stay the same.
package policy
