package admission

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/quota"
)

// resourceQuota charges what is created, or comes to use more, to the quotas of
// its namespace and refuses what they have no room for. It has to be the last
// to judge: what it has charged is stored, or taken back when that fails.
func resourceQuota(ledger *quota.Ledger) Plugin {
	return Plugin{Name: "ResourceQuota", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		if r.Key.Namespace == "" || r.Object == nil || !quota.Counts(r.Key.GroupResource()) {
			return nil
		}
		meter := quota.MeterOf(r.Key.GroupResource())
		if r.Operation != api.Create && r.Operation != api.Update || !meter.Charged(r.Subresource, r.Operation == api.Create) {
			return nil
		}
		write := quota.Write{Meter: meter, Object: r.Object, Old: r.Old}
		server := auth.As(r.Client, auth.PartUser(auth.ServerUser))
		if r.DryRun {
			return forbidden(r, ledger.Check(ctx, server, write))
		}
		charge, err := ledger.Charge(ctx, server, write)
		if charge != nil {
			r.OnSettle(func(o api.Outcome) { ledger.Settle(ctx, charge, o) })
		}
		return forbidden(r, err)
	}}
}

// forbidden makes the API's error of a refusal; other errors stay what they are.
func forbidden(r *api.AdmissionRequest, err error) error {
	var refused *quota.Refused
	if !errors.As(err, &refused) {
		return err
	}
	return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, refused)
}
