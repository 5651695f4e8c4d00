package admission

import (
	"context"

	"wherry.dev/wherry/control/api"
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
	r.Again, r.Reinvoked = false, false
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

// Default is the chain that every cluster has, in Kubernetes' order.
func Default() Chain {
	return Chain{
		namespaceLifecycle(),
	}
}
