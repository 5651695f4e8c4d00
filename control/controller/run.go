package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/quota"
	"wherry.dev/wherry/control/reconcile"
)

// Config is what all controllers work with. Client is required, the rest has
// defaults.
type Config struct {
	Client    api.Client
	Informers *reconcile.Informers // nil: a set of its own, which Run runs too
	Recorder  *reconcile.Recorder  // nil: one of its own, which Run runs too
	Log       *slog.Logger         // nil: no logs
	Clock     func() time.Time     // nil: time.Now
	Metrics   *reconcile.Metrics   // nil: none

	// Resources are all served kinds: what the garbage collector and the end of
	// a namespace look after. nil: those of package api.
	Resources []api.Resource
	// Signer issues what CertificateSigningRequests ask for; nil: nobody does.
	Signer CertificateSigner
	// Tokens fills Secrets with tokens of service accounts; nil: they stay empty.
	Tokens TokenIssuer
	// RootCA is the certificate authority of the cluster in PEM, which every
	// namespace is told; nil: none is.
	RootCA []byte
	// PodCIDR is the network out of which nodes get their blocks of pod
	// addresses, NodeBlockBits the length of a block's prefix; zero:
	// 127.64.0.0/10 and 18.
	PodCIDR       netip.Prefix
	NodeBlockBits int
	// Policies looks for mistakes in admission policies; nil: nobody does.
	Policies PolicyChecker
	// Quotas is what admission charges writes to; nil: one of the controllers'
	// own, for which nothing is on its way to the store.
	Quotas *quota.Ledger
	// Autoscaling are the figures of HorizontalPodAutoscalers.
	Autoscaling Autoscaling
	// Usage answers for metrics.k8s.io; nil: Client does.
	Usage api.Client
	// Adapters reads custom and external metrics; nil: there are none.
	Adapters Adapters
	// NodeGrace is how long a node may be silent; 0: 40 s.
	NodeGrace time.Duration
	// EndedPodsKept is how many pods that have ended are kept; 0: 12,500.
	EndedPodsKept int
}

// runner is one controller. Most are a *reconcile.Loop.
type runner interface {
	Run(ctx context.Context) error
}

// loops is the table of controllers: one line each. A constructor asks
// cfg.Informers for what it watches and adds its indexes and handlers.
func loops(cfg Config) []runner {
	return []runner{
		newDeployments(cfg),
		newReplicaSets(cfg),
		newReplicationControllers(cfg),
		newJobs(cfg),
		newJobOrphans(cfg),
		newFinishedJobs(cfg),
		newCronJobs(cfg),
		newStatefulSets(cfg),
		newDaemonSets(cfg),
		newEndpointSlices(cfg),
		newEndpoints(cfg),
		newSliceMirror(cfg),
		newServiceAccounts(cfg),
		newRoleAggregation(cfg),
		newCertificates(cfg),
		newBootstrapTokens(cfg),
		newRootCA(cfg),
		newTokenSecrets(cfg),
		newIPAM(cfg),
		newNodeLifecycle(cfg),
		newEndedPods(cfg),
		newNamespaceEnd(cfg),
		newDisruptions(cfg),
		newQuotas(cfg),
		newAutoscalers(cfg),
		newVolumeBinder(cfg),
		newClaimProtection(cfg),
		newVolumeProtection(cfg),
		newEphemeralVolumes(cfg),
		newPolicyStatus(cfg),
		newFlowSchemaStatus(cfg),
		newGC(cfg),
	}
}

// Controllers are all controllers, wired to their informers.
type Controllers struct {
	cfg      Config
	runners  []runner
	owned    []runner // informers and recorder, when the caller gave none
	informer *reconcile.Informers
}

// New wires the controllers to cfg.Informers, which must not be running yet:
// the caller runs them (and cfg.Recorder) beside Controllers.Run.
func New(cfg Config) (*Controllers, error) { return newWith(cfg, loops) }

// newWith is New for a choice of controllers.
func newWith(cfg Config, loops func(Config) []runner) (*Controllers, error) {
	if cfg.Client == nil {
		return nil, errors.New("controllers need a client: set Config.Client")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.setDefaults()
	c := &Controllers{}
	if cfg.Informers == nil {
		cfg.Informers = reconcile.NewInformers(cfg.Client, cfg.Log)
		c.owned = append(c.owned, cfg.Informers)
	}
	if cfg.Recorder == nil {
		cfg.Recorder = reconcile.NewRecorder(cfg.Client, "controllers", "", cfg.Log)
		c.owned = append(c.owned, cfg.Recorder)
	}
	c.cfg, c.informer, c.runners = cfg, cfg.Informers, loops(cfg)
	return c, nil
}

// Run runs all controllers until ctx ends and all of them are done. They begin
// once the informers have delivered their first lists.
func (c *Controllers) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	failed := make(chan error, len(c.owned)+len(c.runners))
	start := func(runners []runner) {
		for _, r := range runners {
			group.Go(func() {
				if err := r.Run(ctx); err != nil && ctx.Err() == nil {
					failed <- err
					cancel() // one that cannot go on ends all: half a set of controllers does harm
				}
			})
		}
	}
	start(c.owned)
	if err := c.informer.WaitSynced(ctx); err == nil {
		start(c.runners)
	}
	<-ctx.Done()
	group.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, fmt.Errorf("controllers ended: %w", err))
	}
	return errors.Join(errs...)
}

// Run is New and Controllers.Run, for a caller that shares nothing.
func Run(ctx context.Context, cfg Config) error {
	c, err := New(cfg)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// loop makes a controller's loop with the settings of cfg.
func (cfg Config) loop(name string, workers int, r reconcile.Reconciler) *reconcile.Loop {
	return reconcile.NewLoop(name, r, reconcile.LoopOptions{Workers: workers, Log: cfg.Log, Metrics: cfg.Metrics})
}
