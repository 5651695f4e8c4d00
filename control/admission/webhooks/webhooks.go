package webhooks

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/callout"
	"wherry.dev/wherry/control/reconcile"
)

// Config is what Webhooks work with. Clients is required.
type Config struct {
	Clients    *callout.Clients
	Env        *expr.Env       // nil: one of its own
	Authorizer auth.Authorizer // of expressions; nil: nobody may do anything
	Log        *slog.Logger
}

// Webhooks judge writes by asking webhooks. It is safe for concurrent use.
type Webhooks struct {
	cfg     Config
	metrics *metrics

	informers *reconcile.Informers // set by Follow

	mutating, validating set
}

// New returns Webhooks that follow nothing yet: nobody is asked.
func New(cfg Config) *Webhooks {
	if cfg.Env == nil {
		cfg.Env = &expr.Env{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Webhooks{cfg: cfg, metrics: newMetrics()}
}

// Follow makes the Webhooks read their configurations through a client. Run
// does the work; call it once, before Run.
func (w *Webhooks) Follow(c api.Client) {
	w.informers = reconcile.NewInformers(c, w.cfg.Log)
	w.mutating.follow(w.informers.For(api.MutatingWebhookConfigurations))
	w.validating.follow(w.informers.For(api.ValidatingWebhookConfigurations))
}

// Register shows the figures of the webhooks in a registry.
func (w *Webhooks) Register(reg prometheus.Registerer) { reg.MustRegister(w.metrics.all()...) }

// Run keeps the configurations current until ctx ends.
func (w *Webhooks) Run(ctx context.Context) error {
	defer w.cfg.Clients.Close()
	return w.informers.Run(ctx)
}

// WaitSynced blocks until the configurations are known.
func (w *Webhooks) WaitSynced(ctx context.Context) error { return w.informers.WaitSynced(ctx) }

// set is the compiled webhooks of one kind, in the order of their calls.
type set struct {
	informer atomic.Pointer[reconcile.Informer] // nil: there are none
	stale    atomic.Uint64                      // counts what it has reported
	made     atomic.Pointer[compiled]
}

// compiled is what a set has been made of at one count. It is immutable.
type compiled struct {
	at    uint64
	hooks []*hook
}

func (s *set) follow(i *reconcile.Informer) {
	i.OnChange(func(_, _ api.Object) { s.stale.Add(1) })
	s.informer.Store(i)
}

// current returns the webhooks, compiled anew after a change. compile returns
// those of one configuration.
func (s *set) current(compile func(api.Object) []*hook) []*hook {
	at := s.stale.Load()
	made := s.made.Load()
	if made != nil && made.at == at {
		return made.hooks
	}
	informer := s.informer.Load()
	if at == 0 || informer == nil {
		return nil
	}
	// Two requests may do the same work at once, which is harmless.
	objs := informer.List("")
	slices.SortFunc(objs, func(a, b api.Object) int { return cmp.Compare(a.GetName(), b.GetName()) })
	next := &compiled{at: at}
	for _, obj := range objs {
		next.hooks = append(next.hooks, compile(obj)...)
	}
	s.made.Store(next)
	return next.hooks
}

// check compiles the match conditions of a configuration that is written.
func (w *Webhooks) check(r *api.AdmissionRequest) error {
	if !r.Is(api.MutatingWebhookConfigurations, api.Create, api.Update) && !r.Is(api.ValidatingWebhookConfigurations, api.Create, api.Update) {
		return nil
	}
	before := map[string][]admissionregistrationv1.MatchCondition{}
	if r.Old != nil {
		for _, h := range conditionsOf(r.Old) {
			before[h.name] = h.conditions
		}
	}
	var errs field.ErrorList
	for i, h := range conditionsOf(r.Object) {
		at := field.NewPath("webhooks").Index(i).Child("matchConditions")
		errs = append(errs, w.cfg.Env.CheckConditions(h.conditions, before[h.name], at)...)
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(r.Resource.GVK().GroupKind(), r.Key.Name, errs)
}

// conditioned is a webhook's match conditions under its name.
type conditioned struct {
	name       string
	conditions []admissionregistrationv1.MatchCondition
}

func conditionsOf(configuration api.Object) (out []conditioned) {
	switch c := configuration.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range c.Webhooks {
			out = append(out, conditioned{c.Webhooks[i].Name, c.Webhooks[i].MatchConditions})
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range c.Webhooks {
			out = append(out, conditioned{c.Webhooks[i].Name, c.Webhooks[i].MatchConditions})
		}
	}
	return out
}
