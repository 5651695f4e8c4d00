package auth

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// storage allows what drivers of volumes need on a node: to read the drivers, to
// keep the node's own CSINode, and to read what is attached to it.
func (n *Nodes) storage(ctx context.Context, node string, a Attributes) (bool, string, error) {
	switch {
	case a.Subresource != "":
		return false, "", nil
	case a.Resource == "csidrivers":
		return reads(a.Verb), "", nil
	case a.Resource == "csinodes":
		const reason = "can only access CSINode with the same name as the requesting node"
		switch a.Verb {
		case "get", "update", "patch", "delete":
			return a.Name == node, reason, nil
		case "create":
			return a.Name == "" || a.Name == node, reason, nil
		}
		return false, "can only get, create, update, patch, or delete a CSINode", nil
	case a.Resource == "volumeattachments" && a.Verb == "get":
		attached, err := api.Get[*storagev1.VolumeAttachment](ctx, n.client, api.VolumeAttachments.Key("", a.Name))
		if apierrors.IsNotFound(err) {
			return false, unrelated, nil
		}
		return err == nil && attached.Spec.NodeName == node, unrelated, err
	}
	return false, "", nil
}

// devices allows to read the claims of the node's pods, and to say which devices
// the node has: in slices with its name, of which NodeRestriction makes sure
// when one is created.
func (n *Nodes) devices(ctx context.Context, node string, a Attributes) (bool, string, error) {
	switch {
	case a.Resource == "resourceclaims" && a.Verb == "get":
		return n.referred(ctx, node, a)
	case a.Resource != "resourceslices" || a.Subresource != "":
		return false, "", nil
	}
	switch a.Verb {
	case "create":
		return true, "", nil
	case "list", "watch", "deletecollection":
		return selects(a.Fields, resourcev1.ResourceSliceSelectorNodeName, node),
			"can only list/watch/deletecollection resourceslices with nodeName field selector", nil
	}
	slice, err := api.Get[*resourcev1.ResourceSlice](ctx, n.client, api.ResourceSlices.Key("", a.Name))
	if apierrors.IsNotFound(err) {
		return false, unrelated, nil
	}
	return err == nil && slice.Spec.NodeName != nil && *slice.Spec.NodeName == node, unrelated, err
}

// podCertificates lets a node ask for certificates of pods, whose they are being
// NodeRestriction's to see, and follow its own requests.
func (n *Nodes) podCertificates(ctx context.Context, node string, a Attributes) (bool, string, error) {
	switch a.Verb {
	case "create":
		return true, "", nil
	case "list", "watch":
		return selects(a.Fields, "spec.nodeName", node), "can only list/watch podcertificaterequests with nodeName field selector", nil
	case "get":
		request, err := api.Get[*certificatesv1.PodCertificateRequest](ctx, n.client, api.PodCertificateRequests.Key(a.Namespace, a.Name))
		if apierrors.IsNotFound(err) {
			return false, unrelated, nil
		}
		return err == nil && string(request.Spec.NodeName) == node, unrelated, err
	}
	return false, "", nil
}
