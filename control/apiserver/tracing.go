package apiserver

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"wherry.dev/wherry/control/auth"
)

// traced begins the span of a request, below the client's where it has sent a
// traceparent, and returns what ends it. Names of attributes are those of
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/.
func (c *call) traced() (end func()) {
	ctx := propagation.TraceContext{}.Extract(c.r.Context(), propagation.HeaderCarrier(c.r.Header))
	if !trace.SpanContextFromContext(ctx).IsValid() && !c.begins() {
		return func() {}
	}
	name := c.r.Method
	if c.t.res != nil {
		name += " " + c.t.res.Name
		if c.t.sub.Name != "" {
			name += "/" + c.t.sub.Name
		}
	}
	ctx, span := c.s.cfg.Tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", c.r.Method), attribute.String("url.path", c.r.URL.Path),
		attribute.String("user_agent.original", c.r.UserAgent()), attribute.String("enduser.id", c.user.Name)))
	c.r = c.r.WithContext(ctx)
	return func() {
		span.SetAttributes(attribute.Int("http.response.status_code", c.w.code))
		if c.w.code >= 500 {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// begins tells whether a request that brings no trace is worth one of its own:
// a write of somebody who wants something. Nodes and leaders tell all day how
// they are.
func (c *call) begins() bool {
	if c.t.res == nil || !c.changes() || c.user.In(auth.GroupNodes) {
		return false
	}
	return c.t.res.Name != "leases" && c.t.res.Name != "events"
}
