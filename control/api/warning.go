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
