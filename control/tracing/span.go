package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Name is the name of the tracer that all spans come from.
const Name = "wherry.dev/wherry"

// Draw records something that is over, from one time to another, and returns
// ctx within it: for what is measured anyway and has no context of its own.
func Draw(ctx context.Context, tracer trace.Tracer, name string, from, to time.Time, attributes ...attribute.KeyValue) context.Context {
	ctx, span := tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(to))
	return ctx
}

// Fail notes in a span that what it stands for has failed; nil: it has not.
func Fail(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
}
