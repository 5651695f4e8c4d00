package app

import (
	"context"
	"fmt"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/auth/rbac"
)

// access is what decides who somebody is and what they may do. It is made
// before the registry, which asks it, and given the registry's objects after.
type access struct {
	roles      *rbac.Authorizer
	reviews    *auth.Reviews
	authorizer auth.Authorizer
}

func (c *Cluster) newAccess() *access {
	roles := rbac.New(c.log("access"))
	return &access{roles: roles, reviews: &auth.Reviews{Rules: roles}}
}

func (a *access) admission() admission.Chain {
	return admission.New(admission.Config{Authorizer: a.roles, Roles: a.roles})
}

// startAccess gives the cluster its default roles and makes what decides
// follow the cluster.
func (c *Cluster) startAccess(ctx context.Context) error {
	a := c.access
	if err := rbac.Ensure(ctx, c.registry); err != nil {
		return fmt.Errorf("prepare the cluster's roles: %w", err)
	}
	a.roles.Follow(c.registry)
	c.actors.start("roles", a.roles.Run)
	if err := c.while(ctx, "read the cluster's roles", a.roles.WaitSynced); err != nil {
		return err
	}
	a.authorizer = auth.Any(auth.Masters{}, auth.NewNodes(c.registry), a.roles)
	a.reviews.Authorizer = a.authorizer
	return nil
}
