package tracing

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

func sampled() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
}

// TestMark annotates what leads to pods, when it is made or gets another spec.
func TestMark(t *testing.T) {
	within := trace.ContextWithSpanContext(t.Context(), sampled())
	two := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}}
	request := func(of api.Resource, sub string, op api.Operation, obj, old api.Object) *api.AdmissionRequest {
		return &api.AdmissionRequest{Operation: op, Resource: of, Subresource: sub, Key: of.Key("default", "web"), Object: obj, Old: old}
	}
	for name, test := range map[string]struct {
		request *api.AdmissionRequest
		want    bool
	}{
		"created":         {request(api.Deployments, "", api.Create, &appsv1.Deployment{}, nil), true},
		"a pod":           {request(api.Pods, "", api.Create, &corev1.Pod{}, nil), true},
		"another spec":    {request(api.Deployments, "", api.Update, &appsv1.Deployment{}, two), true},
		"scaled":          {request(api.Deployments, "scale", api.Update, &appsv1.Deployment{}, two), true},
		"the same spec":   {request(api.Deployments, "", api.Update, &appsv1.Deployment{}, &appsv1.Deployment{}), false},
		"another status":  {request(api.Deployments, "status", api.Update, &appsv1.Deployment{}, two), false},
		"no way to a pod": {request(api.ConfigMaps, "", api.Create, &corev1.ConfigMap{}, nil), false},
		"deleted":         {request(api.Pods, "", api.Delete, nil, &corev1.Pod{}), false},
		"bound to a node": {request(api.Pods, "binding", api.Create, &corev1.Binding{}, nil), false},
	} {
		if err := Mark(within, test.request); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		marked := false
		if test.request.Object != nil {
			_, marked = test.request.Object.GetAnnotations()[Annotation]
		}
		if marked != test.want {
			t.Errorf("%s: annotated %v, want %v", name, marked, test.want)
		}
	}
	plain := request(api.Pods, "", api.Create, &corev1.Pod{}, nil)
	if err := Mark(t.Context(), plain); err != nil || len(plain.Object.GetAnnotations()) > 0 {
		t.Errorf("outside of a trace: %v, %v", plain.Object.GetAnnotations(), err)
	}
}

// TestParent reads back what Mark writes, and takes nothing else.
func TestParent(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]bool{
		format(sampled(), now):                                    true,
		format(sampled(), now.Add(-time.Hour)):                    false, // what happens now is not its doing
		format(sampled().WithTraceFlags(0), now):                  false,
		"00-01000000000000000000000000000000-0200000000000000-01": false, // no time
		"nonsense " + now.Format(time.RFC3339):                    false,
		format(sampled(), now) + " or so":                         false,
		"":                                                        false,
	} {
		pod := &corev1.Pod{}
		pod.Annotations = map[string]string{Annotation: text}
		ctx, ok := Parent(t.Context(), pod)
		span := trace.SpanContextFromContext(ctx)
		if ok != want || ok && (span.TraceID() != sampled().TraceID() || span.SpanID() != sampled().SpanID()) {
			t.Errorf("%q: %v, %v", text, ok, span)
		}
	}
}
