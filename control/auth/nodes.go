package auth

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/control/api"
)

// Nodes lets each node's agent do its work and no more: read and change its own
// Node, Lease and pods, read the Services, and the Secrets, ConfigMaps,
// ServiceAccounts and claims (of volumes and of devices) that pods bound to it
// refer to, and the volumes behind those claims or on its own disk. It has the
// scope of Kubernetes' Node authorizer as of 1.34, where a node lists its own
// Node and its own pods only, and, as far as names are concerned, of
// NodeRestriction, which looks into what a node writes. That a node's proxy sees
// all nodes and endpoint slices is the role system:node-proxier's.
//
// The name of an object that is created is in the body: the caller asks once
// without it, to answer early, and again with the name that it has read.
type Nodes struct {
	client api.Client
	known  references
}

// NewNodes decides with the help of the objects that the client sees.
func NewNodes(c api.Client) *Nodes { return &Nodes{client: c} }

// Observe takes in a change of a pod, as an informer of all pods reports it.
// With it, Nodes answers most questions about what pods refer to from an index;
// what that does not know yet, it looks up.
func (n *Nodes) Observe(old, new api.Object) {
	before, _ := old.(*corev1.Pod)
	after, _ := new.(*corev1.Pod)
	n.known.observe(before, after)
}

// unrelated is the reason to keep a node from what is none of its.
const unrelated = "no relationship found between the node and this object"

// leaseNamespace is where nodes renew their leases.
const leaseNamespace = "kube-node-lease"

// Authorize implements Authorizer.
func (n *Nodes) Authorize(ctx context.Context, a Attributes) (bool, string, error) {
	node, ok := strings.CutPrefix(a.User.Name, NodeUserPrefix)
	if !ok || node == "" || !a.User.In(GroupNodes) {
		return false, "", nil
	}
	if a.Resource == "" {
		// Images, the node's own tunnel, and pods of other nodes.
		ours := below(a.Path, "/v2") || a.Path == "/tunnel/"+node || below(a.Path, "/relay")
		return (a.Verb == "get" || a.Verb == "head") && ours, "", nil
	}
	switch a.Group {
	case "":
		return n.core(ctx, node, a)
	case "coordination.k8s.io":
		own := a.Name == node || a.Verb == "create" && a.Name == ""
		return a.Resource == "leases" && a.Namespace == leaseNamespace && own && a.Verb != "deletecollection", "a node may use its own lease only", nil
	case "authentication.k8s.io": // who asks the node's own port, and may they
		return a.Resource == "tokenreviews" && a.Verb == "create", "", nil
	case "authorization.k8s.io":
		return (a.Resource == "subjectaccessreviews" || a.Resource == "localsubjectaccessreviews") && a.Verb == "create", "", nil
	case "certificates.k8s.io":
		// Whether it gets what it asks for is decided by the request's content.
		switch {
		case a.Resource == "podcertificaterequests" && a.Subresource == "":
			return n.podCertificates(ctx, node, a)
		case a.Resource == "clustertrustbundles" && a.Subresource == "":
			return reads(a.Verb), "", nil
		}
		return a.Resource == "certificatesigningrequests" && a.Subresource == "" && (reads(a.Verb) || a.Verb == "create"), "", nil
	case "events.k8s.io":
		return a.Resource == "events" && records(a.Verb), "", nil
	case "node.k8s.io":
		return a.Resource == "runtimeclasses" && reads(a.Verb), "", nil
	case "storage.k8s.io":
		return n.storage(ctx, node, a)
	case "resource.k8s.io":
		return n.devices(ctx, node, a)
	}
	return false, "", nil
}

func (n *Nodes) core(ctx context.Context, node string, a Attributes) (bool, string, error) {
	switch a.Resource {
	case "services", "endpoints":
		return reads(a.Verb) && a.Subresource == "", "", nil
	case "events":
		return records(a.Verb), "", nil
	case "nodes":
		return ownNode(node, a)
	case "pods":
		return n.pods(ctx, node, a)
	case "secrets", "configmaps", "serviceaccounts", "persistentvolumeclaims":
		return n.referred(ctx, node, a)
	case "persistentvolumes":
		return n.volumes(ctx, node, a)
	}
	return false, "", nil
}

func ownNode(node string, a Attributes) (bool, string, error) {
	if reads(a.Verb) {
		own := a.Name == node || a.Name == "" && selects(a.Fields, "metadata.name", node)
		return own && a.Subresource == "", "a node may read its own Node only", nil
	}
	if a.Verb == "create" && a.Subresource == "" {
		return a.Name == "" || a.Name == node, "a node may create its own Node only", nil
	}
	changes := a.Verb == "update" || a.Verb == "patch"
	if !changes || a.Subresource != "" && a.Subresource != "status" {
		return false, "", nil
	}
	return a.Name == node, "a node may change its own Node only", nil
}

func (n *Nodes) pods(ctx context.Context, node string, a Attributes) (bool, string, error) {
	const foreign = "a node may use pods bound to it only"
	switch {
	case a.Verb == "create" && a.Subresource == "":
		return true, "", nil // a mirror pod; admission (NodeRestriction) looks into it
	case a.Verb == "list" || a.Verb == "watch":
		return selects(a.Fields, "spec.nodeName", node), foreign, nil
	case a.Verb == "create" && a.Subresource == "eviction",
		a.Verb == "get" && a.Subresource == "",
		a.Verb == "delete" && a.Subresource == "",
		(a.Verb == "update" || a.Verb == "patch" || a.Verb == "get") && a.Subresource == "status":
		pod, err := api.Get[*corev1.Pod](ctx, n.client, api.Pods.Key(a.Namespace, a.Name))
		if apierrors.IsNotFound(err) {
			// The answer to the request itself will be the same 404.
			return true, "", nil
		}
		if err != nil {
			return false, "", err
		}
		return pod.Spec.NodeName == node, foreign, nil
	}
	return false, "", nil
}

// referred allows to read one object that a pod of this node refers to, to ask
// for tokens of its service account and to report on its claim.
func (n *Nodes) referred(ctx context.Context, node string, a Attributes) (bool, string, error) {
	name := a.Name
	if (a.Verb == "list" || a.Verb == "watch") && a.Fields != nil {
		name, _ = a.Fields.RequiresExactMatch("metadata.name")
	}
	token := a.Resource == "serviceaccounts" && a.Subresource == "token" && a.Verb == "create" // for a pod's volume
	grown := a.Resource == "persistentvolumeclaims" && a.Subresource == "status" && (a.Verb == "update" || a.Verb == "patch")
	if !token && !grown && (!reads(a.Verb) || a.Subresource != "") || name == "" || a.Namespace == "" {
		return false, unrelated, nil
	}
	if n.known.has(reference{node, a.Resource, a.Namespace, name}) {
		return true, "", nil
	}
	// The pod may have come to the node only now.
	list, err := n.client.List(ctx, api.Pods.Key(a.Namespace, ""), api.ListOptions{
		Fields: fields.OneTermEqualSelector("spec.nodeName", node), ResourceVersion: "0",
	})
	if err != nil {
		return false, "", err
	}
	pods, err := api.Items[*corev1.Pod](list)
	if err != nil {
		return false, "", err
	}
	for _, pod := range pods {
		if refers(pod, a.Resource, name) {
			return true, "", nil
		}
	}
	return false, unrelated, nil
}

// volumes allows to read the volumes of a node's own disk, which have its name
// as a label, and those behind the claims of its pods.
func (n *Nodes) volumes(ctx context.Context, node string, a Attributes) (bool, string, error) {
	if a.Subresource != "" || !reads(a.Verb) {
		return false, unrelated, nil
	}
	if a.Verb != "get" {
		if a.Labels == nil {
			return false, unrelated, nil
		}
		host, ok := a.Labels.RequiresExactMatch(corev1.LabelHostname)
		return ok && host == node, unrelated, nil
	}
	pv, err := api.Get[*corev1.PersistentVolume](ctx, n.client, api.PersistentVolumes.Key("", a.Name))
	switch {
	case apierrors.IsNotFound(err):
		return true, "", nil // the answer to the request itself will be the same 404
	case err != nil:
		return false, "", err
	case pv.Labels[corev1.LabelHostname] == node:
		return true, "", nil
	case pv.Spec.ClaimRef == nil:
		return false, unrelated, nil
	}
	return n.referred(ctx, node, Attributes{Verb: "get", Resource: "persistentvolumeclaims", Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name})
}

func selects(s fields.Selector, field, value string) bool {
	if s == nil {
		return false
	}
	got, ok := s.RequiresExactMatch(field)
	return ok && got == value
}

func reads(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

func records(verb string) bool { return verb == "create" || verb == "update" || verb == "patch" }
