// Package apiserver is HTTP to api.Client and back: it knows paths, verbs,
// query parameters, content negotiation, watch streams, tables, discovery and
// OpenAPI documents as the Kubernetes API conventions define them, and nothing
// about what it means to create or change an object; that is behind
// api.Client.
//
// A request passes, in this order: panic guard, audit id, metrics,
// authentication, routing, authorization, the bound on requests in flight, and
// one handler per verb.
package apiserver
