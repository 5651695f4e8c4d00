package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/reconcile"
)

// health is what the parts of a process say of themselves beside the store.
type health struct {
	table atomic.Bool                         // the proxy has had its first table
	loops atomic.Pointer[reconcile.Informers] // of the control loops, while they run here
	first chan struct{}                       // closed when they have run here with all they need to know
	once  sync.Once                           // closes first
}

// checkTime is how long a check may wait: what is well answers at once.
const checkTime = 50 * time.Millisecond

// checks are those of /healthz and /readyz, one for each part of the process.
func (c *Cluster) checks() []apiserver.Check {
	return []apiserver.Check{
		{Name: "store", Check: c.memory.WaitReady},
		{Name: "informer-sync", Check: func(ctx context.Context) error { return synced(ctx, c.informers) }},
		{Name: "service-proxy", Check: func(context.Context) error {
			if !c.health.table.Load() {
				return errors.New("it has no table yet")
			}
			return nil
		}},
		// In a process that does not lead, another one's do the work.
		{Name: "controllers-and-scheduler", Check: func(ctx context.Context) error { return synced(ctx, c.health.loops.Load()) }},
		{Name: "nodes", Check: func(context.Context) error {
			select {
			case <-c.ready:
				return nil
			default:
				return errors.New("a node of this process is not ready yet")
			}
		}},
	}
}

// synced says whether informers know everything; nil ones do.
func synced(ctx context.Context, informers *reconcile.Informers) error {
	if informers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return informers.WaitSynced(ctx)
}

// waitWell blocks until all parts of a process that cannot but lead are well.
func (c *Cluster) waitWell(ctx context.Context) error {
	if err := c.informers.WaitSynced(ctx); err != nil || c.cfg.StoreURL != "" {
		return err
	}
	return c.waitFor(ctx, c.health.first)
}

// profiles serve pprof below /debug/pprof/, for whoever may get that path.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// profilesPath is where profiles are served.
const profilesPath = "/debug/pprof/"
