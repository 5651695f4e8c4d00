package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// Client returns the client of controllers: what it creates for the sake of an
// object that belongs to a trace belongs to that trace too. Without a tracer it
// is c itself.
func Client(c api.Client, tracer trace.Tracer) api.Client {
	if tracer == nil {
		return c
	}
	return tracedClient{c, tracer}
}

type tracedClient struct {
	api.Client
	tracer trace.Tracer
}

// Create implements api.Client.
func (c tracedClient) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	span, ok := c.cause(ctx, obj)
	if !ok || opts.Subresource != "" {
		return c.Client.Create(ctx, key, obj, opts)
	}
	ctx, doing := c.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, span), "create "+key.Resource)
	defer doing.End()
	stored, err := c.Client.Create(ctx, key, obj, opts)
	Fail(doing, err)
	return stored, err
}

// owners are the kinds that make others, by what owner references call them.
var owners = map[string]api.Resource{
	"Deployment": api.Deployments, "ReplicaSet": api.ReplicaSets, "StatefulSet": api.StatefulSets, "DaemonSet": api.DaemonSets,
	"Job": api.Jobs, "CronJob": api.CronJobs, "ReplicationController": api.ReplicationControllers,
}

// cause finds the youngest mark among an object's controllers: a Deployment
// that was scaled has a younger one than the ReplicaSet that makes the pods.
func (c tracedClient) cause(ctx context.Context, obj metav1.Object) (cause trace.SpanContext, ok bool) {
	const generations = 3
	namespace, youngest := obj.GetNamespace(), time.Time{}
	for range generations {
		ref := metav1.GetControllerOf(obj)
		if ref == nil {
			break
		}
		kind, known := owners[ref.Kind]
		if !known {
			break
		}
		owner, err := c.Client.Get(ctx, kind.Key(namespace, ref.Name), api.GetOptions{})
		if err != nil || owner.GetUID() != ref.UID {
			break
		}
		if span, since, fresh := markOf(owner); fresh && since.After(youngest) {
			cause, youngest, ok = span, since, true
		}
		obj = owner
	}
	return cause, ok
}
