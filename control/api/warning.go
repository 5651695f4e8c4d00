package api

import "context"

type warningKey struct{}

// WithWarnings returns a context whose Warn calls reach sink. The HTTP server
// turns them into Warning headers (RFC 7234, code 299). sink is called by the
// goroutine that serves the request only.
func WithWarnings(ctx context.Context, sink func(text string)) context.Context {
	return context.WithValue(ctx, warningKey{}, sink)
}

// Warn tells the client of the request in ctx something that is no error.
func Warn(ctx context.Context, text string) {
	if sink, ok := ctx.Value(warningKey{}).(func(string)); ok {
		sink(text)
	}
}

type annotationKey struct{}

// WithAnnotations returns a context whose Annotate calls reach sink: the audit
// log keeps them with the request. sink is called by the goroutine that serves
// the request only.
func WithAnnotations(ctx context.Context, sink func(key, value string)) context.Context {
	return context.WithValue(ctx, annotationKey{}, sink)
}

// Annotate notes something about the request in ctx for the audit log, such as
// which rule has let it pass. key is qualified: "pod-security.kubernetes.io/audit-violations".
func Annotate(ctx context.Context, key, value string) {
	if sink, ok := ctx.Value(annotationKey{}).(func(key, value string)); ok {
		sink(key, value)
	}
}
