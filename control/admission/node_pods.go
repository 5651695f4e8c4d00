package admission

import (
	"context"
	"errors"
	"maps"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// pods lets a node show its static pods, report on its pods, and end them.
func (n restricted) pods(ctx context.Context) error {
	r := n.request
	old, _ := r.Old.(*corev1.Pod)
	switch r.Subresource {
	case "":
		switch r.Operation {
		case api.Create:
			return n.mirror(ctx)
		case api.Delete:
			if old != nil && old.Spec.NodeName != n.node {
				return n.refuse("can only delete pods with spec.nodeName set to itself")
			}
			return nil
		}
		return n.forbid("unexpected operation %q, node %q can only create and delete mirror pods", r.Operation, n.node)
	case "status":
		return n.status(old)
	case "eviction":
		pod, err := api.Get[*corev1.Pod](ctx, r.Client, r.Key)
		if err != nil {
			return oneNotFound("pod", err)
		}
		if pod.Spec.NodeName != n.node {
			return n.forbid("node %s can only evict pods with spec.nodeName set to itself", n.node)
		}
		return nil
	}
	return n.forbid("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", r.Subresource)
}

func (n restricted) status(old *corev1.Pod) error {
	pod, _ := n.request.Object.(*corev1.Pod)
	switch {
	case pod == nil || old == nil:
		return n.forbid("unexpected operation %q", n.request.Operation)
	case old.Spec.NodeName != n.node:
		return n.refuse("can only update pod status for pods with spec.nodeName set to itself")
	case !maps.Equal(pod.Labels, old.Labels):
		return n.refuse("cannot update labels through pod status")
	case !apiequality.Semantic.DeepEqual(pod.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses):
		// It would make the node a reader of claims of others.
		return n.refuse("cannot update resource claim statues")
	}
	return nil
}

// mirror judges a pod that a node creates: a static pod of its own, which is
// owned by its Node and leads to nothing else that the node could then read.
func (n restricted) mirror(ctx context.Context) error {
	pod, ok := n.request.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if _, is := pod.Annotations[mirrorPod]; !is {
		return n.forbid("pod does not have %q annotation, node %q can only create mirror pods", mirrorPod, n.node)
	}
	if pod.Spec.NodeName != n.node {
		return n.refuse("can only create pods with spec.nodeName set to itself")
	}
	if len(pod.OwnerReferences) > 1 {
		return n.refuse("can only create pods with a single owner reference set to itself")
	}
	if len(pod.OwnerReferences) == 0 {
		return n.refuse("can only create pods with an owner reference set to itself")
	}
	owner := pod.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != n.node:
		return n.refuse("can only create pods with an owner reference set to itself")
	case owner.Controller == nil || !*owner.Controller:
		return n.refuse("can only create pods with a controller owner reference set to itself")
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return n.refuse("must not set blockOwnerDeletion on an owner reference")
	}
	node, err := api.Get[*corev1.Node](ctx, n.request.Client, api.Nodes.Key("", n.node))
	if err != nil {
		return err
	}
	if owner.UID != node.UID {
		return n.forbid("node %s UID mismatch: expected %s got %s", n.node, owner.UID, node.UID)
	}
	refers := ""
	auth.EachReference(pod, func(resource, _ string) bool {
		refers = resource
		return false
	})
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ClusterTrustBundle != nil {
				refers = "clustertrustbundles"
			}
		}
	}
	switch refers {
	case "":
		return nil
	case api.ServiceAccounts.Name:
		refers = "a service account"
	}
	return n.refuse("can not create pods that reference %s", refers)
}

// certificate lets a node ask for the certificates that volumes of its pods
// name a signer for, with everybody called as they are.
func (n restricted) certificate(ctx context.Context) error {
	request, ok := n.request.Object.(*certificatesv1.PodCertificateRequest)
	if !ok || n.request.Operation != api.Create || n.request.Subresource != "" {
		return n.forbid("unexpected operation %q", n.request.Operation)
	}
	spec, client, ns := &request.Spec, n.request.Client, n.request.Key.Namespace
	if string(spec.NodeName) != n.node {
		return n.forbid("PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", spec.NodeName, n.node)
	}
	pod, err := api.Get[*corev1.Pod](ctx, client, api.Pods.Key(ns, spec.PodName))
	if err != nil {
		return err
	}
	account, err := api.Get[*corev1.ServiceAccount](ctx, client, api.ServiceAccounts.Key(ns, spec.ServiceAccountName))
	if err != nil {
		return err
	}
	node, err := api.Get[*corev1.Node](ctx, client, api.Nodes.Key("", n.node))
	if err != nil {
		return err
	}
	_, mirror := pod.Annotations[mirrorPod]
	switch {
	case mirror:
		return n.forbid("pod %q is a mirror pod", pod.Name)
	case pod.Spec.NodeName != n.node:
		return n.forbid("pod %q is not running on node %q", pod.Name, n.node)
	case pod.Spec.ServiceAccountName != spec.ServiceAccountName:
		return n.forbid("pod %q runs as service account %q, not %q", pod.Name, pod.Spec.ServiceAccountName, spec.ServiceAccountName)
	case pod.UID != spec.PodUID || account.UID != spec.ServiceAccountUID || node.UID != spec.NodeUID:
		return n.forbid("the pod, the service account or the node has another UID than the request says")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.PodCertificate != nil && source.PodCertificate.SignerName == spec.SignerName {
				return nil
			}
		}
	}
	return n.forbid("no volume of pod %q has a certificate of signer %q", pod.Name, spec.SignerName)
}

// oneNotFound names what was not found in the singular, as Kubernetes' listers do.
func oneNotFound(resource string, err error) error {
	var status *apierrors.StatusError
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.ErrStatus.Details == nil {
		return err
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, status.ErrStatus.Details.Name)
}
