package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/policy"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver/openapi"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/controller"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/control/scheduler"
	"wherry.dev/wherry/control/tracing"
)

// loopsLease is the Lease of the process that runs controllers and scheduler.
const loopsLease = "wherry-control-loops"

// elector takes part in deciding which process leads. A store of this process'
// own has no other users, so that a start waits for nobody.
func (c *Cluster) elector(recorder *reconcile.Recorder) *reconcile.Elector {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &reconcile.Elector{
		Client: auth.As(c.registry, auth.PartUser(auth.ControllerUser)), Lease: api.Leases.Key(metav1.NamespaceSystem, loopsLease),
		Identity: host + "_" + uuid.NewString(), Alone: c.cfg.StoreURL == "",
		Lead: func(ctx context.Context) error { return c.lead(ctx, recorder) },
		Log:  c.log("election"),
	}
}

// lead runs the loops that only one process may run, until ctx ends. They are
// made anew each time, with informers of their own: a process that does not
// lead keeps nothing for them.
//
// They are also made anew when kinds come or go: the garbage collector and the
// end of namespaces look at custom resources too.
func (c *Cluster) lead(ctx context.Context, recorder *reconcile.Recorder) error {
	for {
		catalog := c.registry.Catalog()
		informers := reconcile.NewInformers(c.registry, c.log("informers"))
		loops, err := c.wireLoops(informers, recorder)
		if err != nil {
			return fmt.Errorf("wire the control loops: %w", err)
		}
		c.health.loops.Store(informers)
		round, end := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { endAfterChange(round, catalog, end) })
		watching.Go(func() {
			if informers.WaitSynced(round) == nil {
				c.health.once.Do(func() { close(c.health.first) })
			}
		})
		err = runAll(round, loops)
		end()
		watching.Wait()
		c.health.loops.Store(nil)
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// kindsSettle is how long the loops go on after a change of kinds: definitions
// come many at a time.
const kindsSettle = time.Second

// endAfterChange calls end a while after a catalog has been superseded.
func endAfterChange(ctx context.Context, catalog *api.Catalog, end context.CancelFunc) {
	select {
	case <-ctx.Done():
		return
	case <-catalog.Superseded():
	}
	settled := time.NewTimer(kindsSettle)
	defer settled.Stop()
	select {
	case <-ctx.Done():
	case <-settled.C:
		end()
	}
}

// wireLoops makes the controllers and the scheduler over one set of informers.
func (c *Cluster) wireLoops(informers *reconcile.Informers, recorder *reconcile.Recorder) ([]named, error) {
	// Tools that tell controllers' fields from users' know them by these names.
	controls := api.Named(tracing.Client(auth.As(c.registry, auth.PartUser(auth.ControllerUser)), c.tracer), "kube-controller-manager")
	schedules := api.Named(auth.As(c.registry, auth.PartUser(auth.SchedulerUser)), "kube-scheduler")
	adapters, err := c.adapters()
	if err != nil {
		return nil, err
	}
	controllers, err := controller.New(controller.Config{
		Client: controls, Informers: informers, Recorder: recorder.For("controllers"), Log: c.log("controllers"), Metrics: c.loops,
		Resources: c.registry.Resources(), Signer: c.ca, Tokens: c.access.tokens, RootCA: c.ca.PEM(), Quotas: c.access.quotas, Policies: c.policyChecker(),
		PodCIDR: c.cfg.PodCIDR, NodeBlockBits: c.cfg.NodeBits, Autoscaling: c.cfg.Autoscaling, Usage: c.used, Adapters: adapters})
	if err != nil {
		return nil, err
	}
	settings, err := c.schedulerSettings()
	if err != nil {
		return nil, err
	}
	schedule, err := scheduler.New(scheduler.Config{
		Client: schedules, Informers: informers, Recorder: recorder.For("default-scheduler"), Log: c.log("scheduler"),
		Served: c.registry.Resources(), Images: c.index, Settings: settings, Tracer: c.tracer})
	if err != nil {
		return nil, err
	}
	return []named{
		{"informers", informers.Run},
		{"controllers", controllers.Run},
		{"scheduler", schedule.Run},
	}, nil
}

// policyChecker knows the schemas of all kinds that are served.
func (c *Cluster) policyChecker() *policy.TypeChecker {
	return &policy.TypeChecker{Env: &expr.Env{}, Kinds: c.registry.Catalog, Document: func(gv schema.GroupVersion) ([]byte, error) {
		path := "apis/" + gv.String()
		if gv.Group == "" {
			path = "api/" + gv.Version
		}
		if made, ok := (*c.registry.Documents())[path]; ok {
			return made, nil
		}
		return openapi.Builtin(path)
	}}
}

// schedulerSettings reads the scheduler's configuration file, if there is one.
func (c *Cluster) schedulerSettings() (*scheduler.Settings, error) {
	if c.cfg.SchedulerConfig == "" {
		return scheduler.DefaultSettings(), nil
	}
	data, err := os.ReadFile(c.cfg.SchedulerConfig)
	if err != nil {
		return nil, fmt.Errorf("--scheduler-config: %w", err)
	}
	settings, err := scheduler.ParseSettings(c.cfg.SchedulerConfig, data)
	if err != nil {
		return nil, fmt.Errorf("--scheduler-config: %w", err)
	}
	return settings, nil
}

// runAll runs parts that belong together until ctx ends. One that fails ends
// the others; its error is returned.
func runAll(ctx context.Context, parts []named) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	for _, part := range parts {
		work.Go(func() {
			err := part.run(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errors.New("ended unexpectedly")
			}
			cancel(fmt.Errorf("%s: %w", part.name, err))
		})
	}
	work.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
