package admission

import (
	"context"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// audienceVerb is the leave to ask for tokens for somebody that no pod names
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/).
const audienceVerb = "request-serviceaccounts-token-audience"

// token lets a node ask for tokens of the accounts of its pods, bound to them,
// for whom the pods name.
func (n restricted) token(ctx context.Context, authorizer auth.Authorizer) error {
	request, ok := n.request.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return nil
	}
	ref := request.Spec.BoundObjectRef
	if ref == nil || ref.Kind != "Pod" || ref.APIVersion != "v1" || ref.Name == "" {
		return n.forbid("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return n.forbid("node requested token with a pod binding without a uid")
	}
	pod, err := api.Get[*corev1.Pod](ctx, n.request.Client, api.Pods.Key(n.request.Key.Namespace, ref.Name))
	if err != nil {
		return oneNotFound("pod", err)
	}
	if ref.UID != pod.UID {
		return n.forbid("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != n.node {
		return n.forbid("node requested token bound to a pod scheduled on a different node")
	}
	return n.audience(ctx, authorizer, pod, request.Spec.Audiences)
}

// audience holds whom the token is for against the pod's volumes; none is the
// API server.
func (n restricted) audience(ctx context.Context, authorizer auth.Authorizer, pod *corev1.Pod, asked []string) error {
	if len(asked) > 1 {
		return n.forbid("node may only request 0 or 1 audiences")
	}
	audience := ""
	if len(asked) == 1 {
		audience = asked[0]
	}
	named, err := n.names(ctx, pod, audience)
	if err != nil || named {
		return err
	}
	if authorizer != nil {
		who := auth.SenderOf(ctx)
		may, _, err := authorizer.Authorize(ctx, auth.Attributes{User: who, Verb: audienceVerb, Resource: audience,
			Namespace: n.request.Key.Namespace, Name: n.request.Key.Name})
		if may || err != nil {
			return err
		}
	}
	return n.forbid("audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", audience, auth.SenderOf(ctx).Name)
}

// names tells whether one of the pod's volumes wants a token for an audience:
// itself, or by its driver.
func (n restricted) names(ctx context.Context, pod *corev1.Pod, audience string) (bool, error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience
		}) {
			return true, nil
		}
		driver, err := n.driverOf(ctx, pod, v)
		if err != nil || driver == "" {
			if err != nil {
				return false, err
			}
			continue
		}
		found, err := api.Get[*storagev1.CSIDriver](ctx, n.request.Client, api.CSIDrivers.Key("", driver))
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return false, err
		case slices.ContainsFunc(found.Spec.TokenRequests, func(t storagev1.TokenRequest) bool { return t.Audience == audience }):
			return true, nil
		}
	}
	return false, nil
}

// driverOf is the driver of a volume, "" if it has none or is not there.
func (n restricted) driverOf(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	if v.CSI != nil {
		return v.CSI.Driver, nil
	}
	name := api.ClaimOf(pod, v)
	if name == "" {
		return "", nil
	}
	claim, err := api.Get[*corev1.PersistentVolumeClaim](ctx, n.request.Client, api.PersistentVolumeClaims.Key(pod.Namespace, name))
	if apierrors.IsNotFound(err) || err == nil && claim.Spec.VolumeName == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	pv, err := api.Get[*corev1.PersistentVolume](ctx, n.request.Client, api.PersistentVolumes.Key("", claim.Spec.VolumeName))
	if apierrors.IsNotFound(err) || err == nil && pv.Spec.CSI == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return pv.Spec.CSI.Driver, nil
}
