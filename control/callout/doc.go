// Package callout is how the API server calls the HTTPS servers that extend
// it: webhooks of admission and conversion, aggregated API servers, and issuers
// of tokens that are Services. It finds
// the address behind a Service, trusts whom the configuration says, and keeps
// connections.
package callout
