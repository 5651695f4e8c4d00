package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/netproxy"
	"wherry.dev/wherry/runtime/sandbox"
)

// named is something long-lived with a name for messages.
type named struct {
	name string
	run  func(context.Context) error
}

// wireParts makes what every process of a cluster runs beside its server: the
// proxy, the image index, and its part in the election of the one that runs
// the control loops. c.informers must not run yet.
func (c *Cluster) wireParts() []named {
	recorder := reconcile.NewRecorder(auth.As(c.registry, auth.PartUser(auth.ControllerUser)), "wherry", "", c.log("events"))
	c.proxy = netproxy.New(netproxy.Config{
		Dial: c.paths.dial, NodePortAddresses: []netip.Addr{c.cfg.NodePortAddress},
		Report: netproxy.RecordTo(recorder.For("service-proxy")), Log: c.log("proxy")})
	c.metrics.MustRegister(c.proxy)
	c.outside = c.newOutside()
	var here []string
	for i := range c.cfg.Nodes {
		here = append(here, nodeName(i))
	}
	follow := c.proxy.Follow(c.informers.For(api.Services), c.informers.For(api.EndpointSlices), c.informers.For(api.Nodes), here...)
	follow.OnTable(func() { c.health.table.Store(true) })
	return []named{
		{"informers", c.informers.Run},
		{"event recorder", recorder.Run},
		{"image index", c.index.Run},
		{"control loops", c.elector(recorder).Run},
		{"service proxy", c.proxy.Run},
		{"service table", follow.Run},
	}
}

func (c *Cluster) newOutside() *outside {
	return &outside{proxy: c.proxy, paths: c.paths, pods: c.cfg.PodCIDR, services: c.cfg.ServiceCIDR, address: c.nodes.clientAddr}
}

// dialAny connects the API server's proxies.
func (c *Cluster) dialAny(ctx context.Context, network, address string) (net.Conn, error) {
	if at, err := netip.ParseAddrPort(address); err == nil && network == "tcp" {
		return c.paths.dial(ctx, at, nil)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, address)
}

// resolve answers guests that look a name up: the cluster's names from the
// proxy's table, all others as the machine resolves them.
func (c *Cluster) resolve(ctx context.Context, pod sandbox.Pod, host string) ([]netip.Addr, error) {
	return resolveIn(ctx, c.proxy.Table(), pod.Namespace, host)
}

func resolveIn(ctx context.Context, table *netproxy.Table, namespace, host string) ([]netip.Addr, error) {
	const maxAliases = 8 // ExternalName Services can name each other in a circle
	for range maxAliases {
		answer, ok := table.Resolve(namespace, host)
		switch {
		case ok && answer.CNAME == "":
			return answer.Addrs, nil
		case ok:
			host = answer.CNAME
		}
		// Only a full name leads back into the cluster: an alias has no namespace.
		if !ok || !strings.HasSuffix(strings.TrimSuffix(host, "."), ".svc."+netproxy.ClusterDomain) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		}
	}
	return nil, fmt.Errorf("resolve %s: more than %d Services of type ExternalName in a row", host, maxAliases)
}
