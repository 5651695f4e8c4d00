package tracing

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// owned is an API with some objects in it, of which only Get is asked.
type owned struct {
	api.Client
	objects map[api.Key]api.Object
}

func (o owned) Get(_ context.Context, key api.Key, _ api.GetOptions) (api.Object, error) {
	if obj, ok := o.objects[key]; ok {
		return obj, nil
	}
	return nil, errors.New("not found")
}

// TestCause: the pods of a Deployment that was scaled a moment after it was made
// belong to the scaling, and to nothing when all of it was long ago.
func TestCause(t *testing.T) {
	made := time.Now().Add(-time.Second)
	span := func(n byte) trace.SpanContext { return sampled().WithSpanID(trace.SpanID{n}) }
	meta := func(name string, mark string, owner *metav1.OwnerReference) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}
		if mark != "" {
			m.Annotations = map[string]string{Annotation: mark}
		}
		if owner != nil {
			m.OwnerReferences = []metav1.OwnerReference{*owner}
		}
		return m
	}
	ref := func(kind, name string) *metav1.OwnerReference {
		return &metav1.OwnerReference{Kind: kind, Name: name, UID: types.UID(name), Controller: new(true)}
	}
	for _, test := range []struct {
		deployment, set string
		want            byte
	}{
		{format(span(1), made), format(span(2), made.Add(time.Millisecond)), 2},
		{format(span(1), made.Add(2*time.Millisecond)), format(span(2), made.Add(time.Millisecond)), 1},
		{format(span(1), made), "", 1},
		{format(span(1), made.Add(-time.Hour)), format(span(2), made.Add(-time.Hour)), 0},
		{"", "", 0},
	} {
		c := Client(owned{objects: map[api.Key]api.Object{
			api.Deployments.Key("default", "web"):   &appsv1.Deployment{ObjectMeta: meta("web", test.deployment, nil)},
			api.ReplicaSets.Key("default", "web-1"): &appsv1.ReplicaSet{ObjectMeta: meta("web-1", test.set, ref("Deployment", "web"))},
		}}, noop.NewTracerProvider().Tracer(Name)).(tracedClient)
		cause, ok := c.cause(t.Context(), &corev1.Pod{ObjectMeta: meta("web-1-a", "", ref("ReplicaSet", "web-1"))})
		if ok != (test.want != 0) || cause.SpanID()[0] != test.want {
			t.Errorf("with %q and %q: %v, %v", test.deployment, test.set, cause.SpanID(), ok)
		}
	}
}
