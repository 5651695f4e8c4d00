package auth

import (
	"context"
	"fmt"
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
func unrelated(node string) string {
	return fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

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
	if a.Name == "" && a.Fields != nil && (a.Verb == "list" || a.Verb == "watch") {
		a.Name, _ = a.Fields.RequiresExactMatch("metadata.name") // a list of one
	}
	switch a.Group {
	case "":
		return n.core(ctx, node, a)
	case "coordination.k8s.io":
		allowed, reason := ownLease(node, a)
		return allowed, reason, nil
	case "authentication.k8s.io": // who asks the node's own port, and may they
		return a.Resource == "tokenreviews" && a.Verb == "create", "", nil
	case "authorization.k8s.io":
		return (a.Resource == "subjectaccessreviews" || a.Resource == "localsubjectaccessreviews") && a.Verb == "create", "", nil
	case "certificates.k8s.io":
		// Whether it gets what it asks for is decided by the request's content.
		switch {
		case a.Resource == "podcertificaterequests":
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

// ownLease lets a node renew its lease.
func ownLease(node string, a Attributes) (bool, string) {
	switch {
	case a.Resource != "leases":
		return false, ""
	case a.Verb != "get" && a.Verb != "delete" && !records(a.Verb):
		return false, "can only get, create, update, patch, or delete a node lease"
	case a.Namespace != leaseNamespace:
		return false, fmt.Sprintf("can only access leases in the %q system namespace", leaseNamespace)
	case a.Name != node && a.Verb != "create": // whose it creates is NodeRestriction's to see
		return false, "can only access node lease with the same name as the requesting node"
	}
	return true, ""
}

// ownNode lets a node read its own Node, and write Nodes: whose it writes is
// NodeRestriction's to see.
func ownNode(node string, a Attributes) (bool, string, error) {
	changes := a.Verb == "update" || a.Verb == "patch"
	switch {
	case a.Subresource == "status":
		return changes, "", nil
	case a.Subresource != "":
		return false, "", nil
	case changes, a.Verb == "create":
		return true, "", nil
	case !reads(a.Verb):
		return false, "", nil
	case a.Name == node:
		return true, "", nil
	case a.Name == "":
		return false, fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node), nil
	}
	return false, fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.Name), nil
}

// pods lets a node read the pods that are bound to it, and write pods: which,
// and what of them, is NodeRestriction's to see.
func (n *Nodes) pods(ctx context.Context, node string, a Attributes) (bool, string, error) {
	switch a.Subresource {
	case "status":
		return a.Verb == "update" || a.Verb == "patch", "", nil
	case "eviction":
		return a.Verb == "create", "", nil
	case "":
	default:
		return false, "", nil
	}
	switch a.Verb {
	case "create", "delete":
		return true, "", nil
	case "list", "watch":
		if selects(a.Fields, "spec.nodeName", node) {
			return true, "", nil
		}
		if a.Name == "" || a.Namespace == "" {
			return false, "can only list/watch pods with spec.nodeName field selector", nil
		}
	case "get":
	default:
		return false, "", nil
	}
	if a.Name == "" {
		return false, noName, nil
	}
	pod, err := api.Get[*corev1.Pod](ctx, n.client, api.Pods.Key(a.Namespace, a.Name))
	if apierrors.IsNotFound(err) {
		return false, unrelated(node), nil
	}
	return err == nil && pod.Spec.NodeName == node, unrelated(node), err
}

// noName is the reason to refuse what needs a name and has none.
const noName = "No Object name found"

// mayRefer tells whether the verb is one that what pods refer to can be asked
// with, or why it is not.
func mayRefer(a Attributes) (ok bool, reason string) {
	switch a.Resource {
	case "secrets", "configmaps":
		switch {
		case !reads(a.Verb):
			return false, "can only read resources of this type"
		case a.Subresource != "":
			return false, "cannot read subresource"
		case a.Namespace == "":
			return false, "can only read namespaced object of this type"
		}
	case "serviceaccounts":
		switch {
		case a.Verb == "get" && a.Subresource == "":
		case a.Verb != "create" || a.Name == "":
			return false, "can only create tokens for individual service accounts"
		case a.Subresource != "token":
			return false, "can only create token subresource of serviceaccount"
		}
	default:
		switch {
		case a.Resource == "persistentvolumeclaims" && a.Subresource == "status":
			if a.Verb != "update" && a.Verb != "patch" {
				return false, "can only get/update/patch this type"
			}
		case a.Verb != "get":
			return false, "can only get individual resources of this type"
		case a.Subresource != "":
			return false, "cannot get subresource"
		}
	}
	return true, ""
}

// referred allows to read one object that a pod of this node refers to, to ask
// for tokens of its service account and to report on its claim.
func (n *Nodes) referred(ctx context.Context, node string, a Attributes) (bool, string, error) {
	name := a.Name
	if ok, reason := mayRefer(a); !ok {
		return false, reason, nil
	}
	if name == "" {
		return false, noName, nil
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
	return false, unrelated(node), nil
}

// volumes allows to read the volumes of a node's own disk, which have its name
// as a label, and those behind the claims of its pods.
func (n *Nodes) volumes(ctx context.Context, node string, a Attributes) (bool, string, error) {
	const onlyGet = "can only get individual resources of this type"
	switch {
	case !reads(a.Verb):
		return false, onlyGet, nil
	case a.Subresource != "":
		return false, "cannot get subresource", nil
	case a.Verb != "get":
		if a.Labels == nil {
			return false, onlyGet, nil
		}
		host, ok := a.Labels.RequiresExactMatch(corev1.LabelHostname)
		return ok && host == node, onlyGet, nil
	}
	pv, err := api.Get[*corev1.PersistentVolume](ctx, n.client, api.PersistentVolumes.Key("", a.Name))
	switch {
	case apierrors.IsNotFound(err):
		return false, unrelated(node), nil
	case err != nil:
		return false, "", err
	case pv.Labels[corev1.LabelHostname] == node:
		return true, "", nil
	case pv.Spec.ClaimRef == nil:
		return false, unrelated(node), nil
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
