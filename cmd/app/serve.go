package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/apiserver/audit"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/dashboard"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/control/tunnel"
	"wherry.dev/wherry/runtime/image/distribution"
)

// openAuth comes after the store, which has locked the data directory.
func (c *Cluster) openAuth(context.Context) error {
	var err error
	if c.ca, err = auth.OpenCA(filepath.Join(c.cfg.DataDir, "pki"), time.Now); err != nil {
		return fmt.Errorf("open the certificate authority: %w", err)
	}
	if c.admin, err = c.ca.Client(auth.Admin()); err != nil {
		return fmt.Errorf("issue the admin's certificate: %w", err)
	}
	return nil
}

// serve opens the API to the outside and tells everybody where it is.
func (c *Cluster) serve(ctx context.Context) (err error) {
	if c.listener, err = net.Listen("tcp", c.cfg.APIAddress); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use: choose another --api-address (port 0 picks a free one)", c.cfg.APIAddress)
		}
		return fmt.Errorf("listen on --api-address %q (want HOST:PORT, of this machine): %w", c.cfg.APIAddress, err)
	}
	served := false
	defer func() {
		if !served {
			_ = c.listener.Close() // nobody else has it yet
		}
	}()
	images, err := distribution.Open(filepath.Join(c.cfg.DataDir, "images"), c.log("images"))
	if err != nil {
		return err
	}
	c.index = newImageIndex(c.inspectImage, c.log("images"))
	tlsConfig, err := c.ca.ServerTLS("apiserver", c.servingNames())
	if err != nil {
		return fmt.Errorf("issue the serving certificate: %w", err)
	}
	page, err := dashboard.Handler()
	if err != nil {
		return err
	}
	auditor, err := c.openAudit()
	if err != nil {
		return err
	}
	c.nodes = newNodes(c)
	c.informers = reconcile.NewInformers(c.registry, c.log("informers")) // startLoops runs them
	c.informers.For(api.Pods).OnChange(c.access.nodes.Observe)
	c.paths = &paths{nodes: c.informers.For(api.Nodes), local: c.nodes.dialPod, far: c.nodes.dialFar, first: newFirstResponses(c.tracer)}
	if c.paths.first != nil {
		c.informers.For(api.Pods).OnChange(c.paths.first.observe)
	}
	close(c.reaching)
	used, err := c.withMetrics()
	if err != nil {
		return err
	}
	c.used = used
	extra, err := c.access.tokens.Discovery(c.URL())
	if err != nil {
		return err
	}
	extra["/v2/"], extra[dashboard.Path] = c.index.noticing(images), page
	if c.cfg.Profiling {
		extra[profilesPath] = profiles()
	}
	extra[tunnel.Path], extra[tunnel.RelayPath] = c.nodes.hub, c.nodes.hub.Relay(c.nodes.relayed)
	aggregator, err := c.newAggregator(ctx, used)
	if err != nil {
		return err
	}
	server, err := apiserver.New(apiserver.Config{
		Audit:  auditor,
		Tracer: c.tracer,
		Checks: c.checks(),
		Client: used, Types: c.types, Kinds: used, Tables: used, Custom: c.registry,
		Authenticator: c.authenticator(),
		Authorizer:    auth.Any(c.access.authorizer, pageForAll{}),
		Connects:      c.registry,
		Aggregated:    aggregator,
		Nodes:         c.nodes.transport,
		Dial:          c.dialAny,
		Extra:         extra,
		Log:           c.log("apiserver"),
	})
	if err != nil {
		return fmt.Errorf("make the API server: %w", err)
	}
	c.metrics = server.Registry()
	c.loops = reconcile.NewMetrics(c.metrics)
	c.access.webhooks.Register(server.Registry())
	c.access.policies.Register(server.Registry())
	if err := errors.Join(c.publishAddress(ctx), c.publishClusterInfo(ctx)); err != nil {
		return err
	}
	if err := c.startWebhooks(ctx); err != nil {
		return err
	}
	c.actors.start("aggregation", func(ctx context.Context) error { return c.runAggregator(ctx, aggregator) })
	served = true
	c.actors.start("API server", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, c.nodes.hub.Close)()
		return server.Serve(ctx, c.listener, tlsConfig)
	})
	if err := c.writeKubeconfigs(); err != nil {
		return err
	}
	close(c.serving)
	return nil
}

// openAudit opens the audit log, which is closed after the API server has ended;
// nil: there is none.
func (c *Cluster) openAudit() (apiserver.Auditor, error) {
	if c.cfg.AuditLog == "" || c.cfg.AuditLevel == audit.LevelNone {
		return nil, nil
	}
	log, err := audit.Open(c.cfg.AuditLog, c.cfg.AuditLevel, c.log("audit"))
	if err != nil {
		return nil, fmt.Errorf("--audit-log-path: %w", err)
	}
	c.actors.start("audit log", func(ctx context.Context) error {
		<-ctx.Done()
		return log.Close()
	})
	return log, nil
}

// servingNames are the names and addresses under which clients reach the API.
func (c *Cluster) servingNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", c.cfg.ServiceCIDR.Addr().Next().String()}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	host, _, err := net.SplitHostPort(c.listener.Addr().String())
	if err != nil {
		return names
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
		return append(names, host)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return names
	}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			names = append(names, prefix.Addr().String())
		}
	}
	return names
}

// reachable turns a listener's address into one that can be dialled.
func reachable(addr net.Addr) netip.AddrPort {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}
	}
	if at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// publishAddress makes the API server the endpoint of the Service
// default/kubernetes.
func (c *Cluster) publishAddress(ctx context.Context) error {
	if err := c.registry.PublishAPIServer(ctx, reachable(c.listener.Addr())); err != nil {
		return fmt.Errorf("publish the API server's address: %w", err)
	}
	return nil
}

// identityMap is the ConfigMap that says which cluster a store belongs to.
const identityMap = "wherry-cluster"

// checkIdentity refuses a data directory that was put together from two
// clusters: its clients would be cut off, or talk to the wrong objects.
func checkIdentity(ctx context.Context, client api.Client, id string) error {
	key := api.ConfigMaps.Key(metav1.NamespaceSystem, identityMap)
	kept, err := api.Get[*corev1.ConfigMap](ctx, client, key)
	if apierrors.IsNotFound(err) {
		_, err := client.Create(ctx, key, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string]string{"id": id}}, api.CreateOptions{})
		return err
	}
	if err != nil {
		return fmt.Errorf("identify the cluster: %w", err)
	}
	if other := kept.Data["id"]; other != id {
		return fmt.Errorf("the store in the data directory belongs to cluster %s, its certificates (pki) to cluster %s: "+
			"restore the directory that belongs to the store, or choose another --data-dir", other, id)
	}
	return nil
}
