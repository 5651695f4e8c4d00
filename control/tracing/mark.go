package tracing

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// Annotation says to which span an object owes its present shape, and since
// when: a traceparent (https://www.w3.org/TR/trace-context/#traceparent-header)
// and a time of RFC 3339, separated by a space.
const Annotation = "wherry.dev/trace"

// fresh is how long an annotation counts. What happens to an object later (a
// node fails, an autoscaler wants more) is not the work of who wrote it last.
const fresh = 10 * time.Minute

// leading are the kinds that lead to pods.
var leading = []api.Resource{api.Deployments, api.ReplicaSets, api.StatefulSets, api.DaemonSets, api.Jobs, api.CronJobs,
	api.ReplicationControllers, api.Pods}

// leads tells whether an object of the request's kind leads to pods.
func leads(r *api.AdmissionRequest) bool {
	for _, kind := range leading {
		if r.Is(kind, api.Create, api.Update) || r.IsSub(kind, "scale", api.Update) {
			return true
		}
	}
	return false
}

// Mark is a plugin of admission: it annotates what is being created, or gets
// another spec, while a span is recorded.
func Mark(ctx context.Context, r *api.AdmissionRequest) error {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() || !leads(r) || r.Old != nil && equality.Semantic.DeepEqual(spec(r.Object), spec(r.Old)) {
		return nil
	}
	annotations := maps.Clone(r.Object.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[Annotation] = format(span, time.Now())
	r.Object.SetAnnotations(annotations)
	return nil
}

// spec is an object's field Spec; all leading kinds have one.
func spec(obj api.Object) any {
	if field := reflect.Indirect(reflect.ValueOf(obj)).FieldByName("Spec"); field.IsValid() {
		return field.Interface()
	}
	return nil
}

func format(span trace.SpanContext, now time.Time) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), span), carrier)
	return carrier["traceparent"] + " " + now.UTC().Format(time.RFC3339Nano)
}

func parse(text string) (span trace.SpanContext, since time.Time, err error) {
	parent, at, ok := strings.Cut(text, " ")
	if !ok {
		return span, since, fmt.Errorf("annotation %s is %q: want a traceparent and a time", Annotation, text)
	}
	if since, err = time.Parse(time.RFC3339, at); err != nil {
		return span, since, fmt.Errorf("annotation %s: %w", Annotation, err)
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
	return trace.SpanContextFromContext(ctx), since, nil
}

// Parent returns ctx within the span that an object belongs to. ok is false
// when there is none, when it is not recorded, or when that was too long ago.
func Parent(ctx context.Context, obj metav1.Object) (within context.Context, ok bool) {
	span, _, ok := markOf(obj)
	if !ok {
		return ctx, false
	}
	return trace.ContextWithRemoteSpanContext(ctx, span), true
}

// markOf reads an object's annotation. One that somebody has written otherwise
// is as good as none: nothing but a trace depends on it.
func markOf(obj metav1.Object) (span trace.SpanContext, since time.Time, ok bool) {
	text, there := obj.GetAnnotations()[Annotation]
	if !there {
		return span, since, false
	}
	span, since, err := parse(text)
	return span, since, err == nil && span.IsSampled() && time.Since(since) < fresh
}
