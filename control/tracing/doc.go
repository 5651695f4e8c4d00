// Package tracing makes one OpenTelemetry trace of what an apply leads to: the
// request, the writes, what controllers create for it, the scheduler's choice,
// the steps of the pod's start, and its first response.
//
// Whoever works on a request has the trace in its context. Controllers, the
// scheduler and nodes do not: they see objects, maybe in another process. So
// each object that a traced request (or a traced creation) has made, and that
// leads to pods, carries where it belongs in an annotation; see Mark and Parent.
//
// Without a tracer nothing is annotated, and what remains is a look at a context
// or a comparison with nil.
package tracing
