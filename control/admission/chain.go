package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/policy"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/quota"
)

// Plugin is one judge of writes. Both functions may be nil. They are called
// for every write to every kind and tell by the request whether it concerns
// them; they may be called again for the same write (see
// registry.Admission).
type Plugin struct {
	Name     string // as Kubernetes calls it: "LimitRanger"
	Mutate   func(ctx context.Context, r *api.AdmissionRequest) error
	Validate func(ctx context.Context, r *api.AdmissionRequest) error
}

// Chain asks plugins in order; the first refusal counts. It implements
// registry.Admission.
type Chain []Plugin

// Mutate lets each plugin complete the object. When one asks for it (a webhook
// that changed something others have decided on), all are called once more, as
// the reinvocation policy of webhooks wants.
func (c Chain) Mutate(ctx context.Context, r *api.AdmissionRequest) error {
	r.Again, r.Reinvoked, r.Keep = false, false, nil
	if err := c.mutate(ctx, r); err != nil || !r.Again {
		return err
	}
	r.Reinvoked = true
	return c.mutate(ctx, r)
}

func (c Chain) mutate(ctx context.Context, r *api.AdmissionRequest) error {
	for i := range c {
		if c[i].Mutate == nil {
			continue
		}
		if err := c[i].Mutate(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Validate asks each plugin whether the final object may be stored.
func (c Chain) Validate(ctx context.Context, r *api.AdmissionRequest) error {
	for i := range c {
		if c[i].Validate == nil {
			continue
		}
		if err := c[i].Validate(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Config is what the built-in plugins work with. Everything is optional; a
// plugin that lacks something judges without it or is left out.
type Config struct {
	// Authorizer and Roles are for the plugins that ask what the sender may do.
	Authorizer auth.Authorizer
	Roles      Roles
	// MountTokens puts a volume with the service account's token into pods.
	MountTokens bool
	// TaintNodes keeps pods off new nodes until the node controller has seen
	// them ready; it needs that controller.
	TaintNodes  bool
	PodSecurity PodSecurity
	// Kinds finds the resource of a kind in which policies have their
	// parameters; nil: none can be found.
	Kinds func(schema.GroupVersionKind) (api.Resource, bool)
	// PolicyMetrics counts what admission policies say and do; nil: nothing does.
	PolicyMetrics *policy.Metrics
	// Quotas is what ResourceQuotas are charged through: the controller that
	// counts what they use has to have the same. nil: one of its own.
	Quotas *quota.Ledger
	// Webhooks asks the webhooks of the cluster.
	Webhooks Judge
}

// Judge is who judges writes in both phases.
type Judge interface {
	Mutate(ctx context.Context, r *api.AdmissionRequest) error
	Validate(ctx context.Context, r *api.AdmissionRequest) error
}

// Default is the chain that every cluster has, without what needs to know
// users.
func Default() Chain { return New(Config{}) }

// New returns the built-in plugins in Kubernetes' order.
func New(cfg Config) Chain {
	c := Chain{
		namespaceLifecycle(),
		limitRanger(),
		nodeRestriction(cfg.Authorizer),
		serviceAccount(cfg.MountTokens),
		podSecurity(cfg.PodSecurity),
		priority(),
		defaultStorageClass(),
		inUseProtection(),
		claimResize(),
		runtimeClass(),
	}
	if cfg.TaintNodes {
		c = append(c, taintNodes())
	}
	if cfg.Authorizer != nil {
		c = append(c, certificateApproval(cfg.Authorizer), certificateSigning(cfg.Authorizer), trustAttest(cfg.Authorizer))
	}
	c = append(c, certificateSubject(), defaultIngressClass())
	if cfg.Authorizer != nil && cfg.Roles != nil {
		c = append(c, roleEscalation(cfg.Authorizer, cfg.Roles))
	}
	env := &expr.Env{}
	rules := policy.Config{Env: env, Authorizer: cfg.Authorizer, Kinds: cfg.Kinds, Metrics: cfg.PolicyMetrics}
	c = append(c, Plugin{Name: "AdmissionPolicyExpressions", Validate: policy.Check(env)},
		Plugin{Name: "MutatingAdmissionPolicy", Mutate: policy.NewMutating(rules).Mutate})
	if cfg.Webhooks != nil {
		c = append(c, Plugin{Name: "MutatingAdmissionWebhook", Mutate: cfg.Webhooks.Mutate})
	}
	c = append(c, Plugin{Name: "ValidatingAdmissionPolicy", Validate: policy.NewValidating(rules).Validate})
	if cfg.Webhooks != nil {
		c = append(c, Plugin{Name: "ValidatingAdmissionWebhook", Validate: cfg.Webhooks.Validate})
	}
	if cfg.Quotas == nil {
		cfg.Quotas = quota.NewLedger(nil)
	}
	return append(c, resourceQuota(cfg.Quotas))
}
