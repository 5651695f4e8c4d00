package auth

import (
	"context"
	"fmt"

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
	case a.Resource == "csidrivers":
		return reads(a.Verb) && a.Subresource == "", "", nil
	case a.Resource == "csinodes" && a.Subresource == "status":
		return false, "CSINode status access requires CSIVolumeHealth feature", nil
	case a.Resource == "csinodes" && a.Subresource != "":
		return false, "cannot authorize CSINode subresources", nil
	case a.Resource == "csinodes":
		const reason = "can only access CSINode with the same name as the requesting node"
		switch a.Verb {
		case "get", "update", "patch", "delete":
			return a.Name == node, reason, nil
		case "create":
			return true, "", nil // whose is NodeRestriction's to see
		}
		return false, "can only get, create, update, patch, or delete a CSINode", nil
	case a.Resource != "volumeattachments":
		return false, "", nil
	case a.Verb != "get":
		return false, "can only get individual resources of this type", nil
	case a.Subresource != "":
		return false, "cannot get subresource", nil
	case a.Name == "":
		return false, noName, nil
	default:
		attached, err := api.Get[*storagev1.VolumeAttachment](ctx, n.client, api.VolumeAttachments.Key("", a.Name))
		if apierrors.IsNotFound(err) {
			return false, unrelated(node), nil
		}
		return err == nil && attached.Spec.NodeName == node, unrelated(node), err
	}
}

// devices allows to read the claims of the node's pods, and to say which devices
// the node has: in slices with its name, of which NodeRestriction makes sure
// when one is created.
func (n *Nodes) devices(ctx context.Context, node string, a Attributes) (bool, string, error) {
	switch {
	case a.Resource == "resourceclaims":
		return n.referred(ctx, node, a)
	case a.Resource != "resourceslices":
		return false, "", nil
	case a.Subresource != "":
		return false, "cannot authorize ResourceSlice subresources", nil
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
		return false, unrelated(node), nil
	}
	return err == nil && slice.Spec.NodeName != nil && *slice.Spec.NodeName == node, unrelated(node), err
}

// podCertificates lets a node ask for certificates of pods, whose they are being
// NodeRestriction's to see, and follow its own requests.
func (n *Nodes) podCertificates(ctx context.Context, node string, a Attributes) (bool, string, error) {
	if a.Subresource != "" {
		return false, "nodes may not access the status subresource of PodCertificateRequests", nil
	}
	switch a.Verb {
	case "create":
		return true, "", nil
	case "list", "watch":
		return selects(a.Fields, "spec.nodeName", node), "can only list/watch podcertificaterequests with nodeName field selector", nil
	case "get":
		request, err := api.Get[*certificatesv1.PodCertificateRequest](ctx, n.client, api.PodCertificateRequests.Key(a.Namespace, a.Name))
		if apierrors.IsNotFound(err) {
			return false, unrelated(node), nil
		}
		return err == nil && string(request.Spec.NodeName) == node, unrelated(node), err
	}
	return false, fmt.Sprintf("nodes may not %s podcertificaterequests", a.Verb), nil
}
