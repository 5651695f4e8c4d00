// Package expr compiles and evaluates the CEL expressions of admission: the
// match conditions of webhooks, and what policies consist of. The language is
// Kubernetes' library; this package brings the requests of this server into
// the form that it works on.
package expr
