package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/callout"
	"wherry.dev/wherry/control/metrics"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/natskv"
	"wherry.dev/wherry/netproxy"
	"wherry.dev/wherry/runtime/image"
)

// Cluster is a server and its nodes in this process.
type Cluster struct {
	cfg    Config
	actors *actors

	// Made while starting, in this order; fixed once serving is closed.
	types     *api.Types
	tracer    trace.Tracer // nil: no traces
	bucket    *natskv.Bucket
	memory    *store.Store
	ca        *auth.CA
	admin     auth.Credential
	registry  *registry.Registry
	access    *access
	callouts  *callout.Clients
	listener  net.Listener
	index     *imageIndex
	images    *image.Store // of this machine
	informers *reconcile.Informers
	proxy     *netproxy.Proxy
	paths     *paths   // to pods
	outside   *outside // of guests
	context   string   // in the user's kubeconfig, "" when it was not touched
	nodes     *nodes
	health    health
	metrics   prometheus.Registerer // what /metrics shows
	loops     *reconcile.Metrics    // of the control loops
	used      *metrics.Client       // the registry with metrics.k8s.io

	reaching chan struct{} // closed once there is a way to pods
	serving  chan struct{}
	ready    chan struct{}
	ended    chan struct{}
}

// New makes a cluster; nothing happens before Run.
func New(cfg Config) *Cluster {
	return &Cluster{cfg: cfg, actors: newActors(), health: health{first: make(chan struct{})},
		reaching: make(chan struct{}), serving: make(chan struct{}), ready: make(chan struct{}), ended: make(chan struct{})}
}

// Run runs the cluster until ctx ends or a part of it fails. When it returns
// everything it started has ended. It can be called once.
func (c *Cluster) Run(ctx context.Context) error {
	defer close(c.ended)
	err := c.start(ctx)
	if err == nil {
		err = c.actors.wait(ctx)
	} else if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, c.actors.stop())
}

// start brings the parts up from the disk to the nodes.
func (c *Cluster) start(ctx context.Context) error {
	if _, err := c.schedulerSettings(); err != nil {
		return err
	}
	if err := c.cfg.check(); err != nil {
		return err
	}
	var err error
	if c.types, err = api.NewTypes(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		c.openTraces, c.openStore, c.openAuth, c.openRegistry, c.serve, c.startLoops, c.startNodes,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) openStore(ctx context.Context) error {
	if err := claimDir(c.cfg.DataDir); err != nil {
		return err
	}
	var err error
	c.bucket, err = natskv.Open(ctx, natskv.Config{Dir: filepath.Join(c.cfg.DataDir, storeDir), URL: c.cfg.StoreURL, Log: c.log("store")})
	if err != nil {
		return fmt.Errorf("open the store in %s: %w", cmp.Or(c.cfg.StoreURL, c.cfg.DataDir), err)
	}
	c.actors.start("store log", c.bucket.Run)
	return nil
}

// shared says that other processes may serve the same store.
func (c *Cluster) shared() bool { return c.cfg.StoreURL != "" }

func (c *Cluster) openRegistry(ctx context.Context) error {
	memory := store.New(c.bucket, store.Options{Shared: c.shared(), Log: c.log("store")})
	c.memory = memory
	c.actors.start("store", memory.Run)
	c.callouts = c.newCallouts()
	var err error
	if c.access, err = c.newAccess(); err != nil {
		return err
	}
	keyring, err := c.openKeyring()
	if err != nil {
		return err
	}
	c.registry, err = registry.New(registry.Config{Store: memory, Shared: c.shared(), Types: c.types, Log: c.log("registry"), ServiceCIDR: c.cfg.ServiceCIDR,
		Admission: slices.Concat(c.access.admission(func() *api.Catalog { return c.registry.Catalog() }), marking(c.tracer)), Reviews: c.access.reviews.Answer, Tokens: c.access.tokens,
		Keyring: keyring, Conversions: c.callouts.Convert, EventTTL: c.cfg.EventTTL})
	if err != nil {
		return err
	}
	if err := c.while(ctx, "read the store", memory.WaitReady); err != nil {
		return err
	}
	if err := c.registry.Bootstrap(ctx); err != nil {
		return fmt.Errorf("prepare the cluster: %w", err)
	}
	if err := checkIdentity(ctx, c.registry, c.ca.ID()); err != nil {
		return err
	}
	c.actors.start("registry", c.registry.Run)
	return c.startAccess(ctx)
}

// while waits for something, but not longer than the parts it depends on live.
func (c *Cluster) while(ctx context.Context, what string, wait func(context.Context) error) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- wait(waiting) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case err := <-c.actors.failed:
		cancel()
		<-done
		return err
	}
}

// startLoops starts everything that brings the world in line with the API.
func (c *Cluster) startLoops(context.Context) error {
	var err error
	if c.images, err = c.openImages(); err != nil {
		return err
	}
	for _, one := range c.wireParts() {
		c.actors.start(one.name, one.run)
	}
	return nil
}

// WaitServing blocks until the API is served.
func (c *Cluster) WaitServing(ctx context.Context) error { return c.waitFor(ctx, c.serving) }

// WaitReady blocks until all nodes of this process are ready, and whatever else
// /readyz asks of it.
func (c *Cluster) WaitReady(ctx context.Context) error {
	if err := c.waitFor(ctx, c.ready); err != nil {
		return err
	}
	return c.waitWell(ctx)
}

func (c *Cluster) waitFor(ctx context.Context, what <-chan struct{}) error {
	select {
	case <-what:
		return nil
	case <-c.ended:
		return errors.New("the cluster did not come up")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Client is the API in process. Valid after WaitServing.
func (c *Cluster) Client() api.Client { return c.registry }

// URL is the API server's address. Valid after WaitServing.
func (c *Cluster) URL() string { return "https://" + reachable(c.listener.Addr()).String() }

// KubeconfigFile is the admin's kubeconfig. Valid after WaitServing.
func (c *Cluster) KubeconfigFile() string { return filepath.Join(c.cfg.DataDir, kubeconfigFile) }

// Context is the cluster's name in the user's kubeconfig, empty when that was
// left alone. Valid after WaitServing.
func (c *Cluster) Context() string { return c.context }

func (c *Cluster) log(part string) *slog.Logger { return c.cfg.Log.With("part", part) }

// writeKubeconfigs gives the admin a way in.
func (c *Cluster) writeKubeconfigs() error {
	if err := auth.WriteKubeconfig(c.KubeconfigFile(), auth.Kubeconfig(auth.ContextName, c.URL(), c.ca.PEM(), c.admin)); err != nil {
		return fmt.Errorf("write %s: %w", c.KubeconfigFile(), err)
	}
	if !c.cfg.MergeKubeconfig {
		return nil
	}
	name, err := auth.MergeKubeconfig(clientcmd.NewDefaultClientConfigLoadingRules(), c.ca.ID(), c.URL(), c.ca.PEM(), c.admin)
	if err != nil {
		// The cluster works without it, so this is no reason to refuse.
		c.cfg.Log.Warn("your kubeconfig was left as it is", "err", err, "use", "--kubeconfig "+c.KubeconfigFile())
		return nil
	}
	c.context = name
	return nil
}

// claimDir makes the data directory, or makes sure that it is ours: a
// directory with something else in it is never written to.
func claimDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory (choose another with --data-dir): %w", err)
	}
	marker := filepath.Join(dir, markerFile)
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s holds files but no Wherry cluster: choose an empty --data-dir", dir)
	}
	if err := os.WriteFile(marker, []byte("This directory belongs to a Wherry cluster. Do not edit files in it.\n"), 0o600); err != nil {
		return fmt.Errorf("claim the data directory: %w", err)
	}
	return nil
}

// What a data directory holds.
const (
	markerFile = "WHERRY"  // tells a data directory from any other one
	storeDir   = "store"   // the objects
	machineDir = "machine" // images and compiled modules, which nodes share
)
