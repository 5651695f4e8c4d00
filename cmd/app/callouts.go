package app

import (
	"context"
	"net"

	"wherry.dev/wherry/control/admission/webhooks"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/callout"
)

// newCallouts makes the clients of the servers that extend the API. They reach
// Services once there is a way to pods; who calls before waits.
func (c *Cluster) newCallouts() *callout.Clients {
	return callout.NewClients(callout.Config{
		Resolve: func(ctx context.Context, namespace, service, port string) (string, error) {
			return callout.Resolve(ctx, c.registry, namespace, service, port)
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case <-c.reaching:
				return c.dialAny(ctx, network, address)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
}

// startWebhooks makes admission ask the webhooks that the cluster has. It
// comes after what the server writes to be found: no webhook can keep a server
// from starting.
func (c *Cluster) startWebhooks(ctx context.Context) error {
	w := c.access.webhooks
	w.Follow(c.registry)
	c.actors.start("webhooks", w.Run)
	return c.while(ctx, "read the cluster's webhooks", w.WaitSynced)
}

// newWebhooks makes the judge of writes that asks webhooks.
func (c *Cluster) newWebhooks(a *access) *webhooks.Webhooks {
	return webhooks.New(webhooks.Config{Clients: c.callouts, Log: c.log("webhooks"), Authorizer: lateAuthorizer{a}})
}

// lateAuthorizer asks the authorizer of the cluster, which is made after
// admission and before the first request.
type lateAuthorizer struct{ access *access }

// Authorize implements auth.Authorizer.
func (l lateAuthorizer) Authorize(ctx context.Context, a auth.Attributes) (bool, string, error) {
	return l.access.authorizer.Authorize(ctx, a)
}
