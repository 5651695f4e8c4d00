package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// nodeRestriction looks into what a node writes: its own Node without
// restricted labels and taints, its own pods, tokens for its own pods, its own
// Lease, CSINode and ResourceSlices, certificates for its own pods, and the size
// of its claims
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction).
// The authorizer, which may be nil, says which audiences tokens may have beside
// those that a pod names.
func nodeRestriction(authorizer auth.Authorizer) Plugin {
	return Plugin{Name: "NodeRestriction", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		who := auth.SenderOf(ctx)
		node, ok := strings.CutPrefix(who.Name, auth.NodeUserPrefix)
		if !ok || !who.In(auth.GroupNodes) {
			return nil
		}
		n := restricted{node: node, request: r}
		switch of := r.Key.GroupResource(); of {
		case api.Nodes.GroupResource():
			return n.nodes()
		case api.Pods.GroupResource():
			return n.pods(ctx)
		case api.PersistentVolumeClaims.GroupResource():
			return n.claims()
		case api.ServiceAccounts.GroupResource():
			if r.Subresource == "token" && r.Operation == api.Create {
				return n.token(ctx, authorizer)
			}
		case api.Leases.GroupResource():
			return n.lease()
		case api.CSINodes.GroupResource():
			if r.Key.Name != node {
				return n.forbid("can only access CSINode with the same name as the requesting node")
			}
		case api.ResourceSlices.GroupResource():
			return n.slices()
		case api.CertificateSigningRequests.GroupResource():
			return n.signing()
		case api.PodCertificateRequests.GroupResource():
			return n.certificate(ctx)
		}
		return nil
	}}
}

// restricted judges one request of a node.
type restricted struct {
	node    string
	request *api.AdmissionRequest
}

// refuse is forbid of a sentence about the node.
func (n restricted) refuse(format string, args ...any) error {
	return n.forbid("node %q "+format, append([]any{n.node}, args...)...)
}

func (n restricted) forbid(format string, args ...any) error {
	return apierrors.NewForbidden(n.request.Key.GroupResource(), n.request.Key.Name, fmt.Errorf(format, args...))
}

func (n restricted) lease() error {
	switch key := n.request.Key; {
	case key.Namespace != corev1.NamespaceNodeLease:
		return n.forbid("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case key.Name != n.node:
		return n.forbid("can only access node lease with the same name as the requesting node")
	}
	return nil
}

// signing lets a node ask for kubelets' certificates in its own name only,
// whatever the approvers would say.
func (n restricted) signing() error {
	csr, ok := n.request.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || n.request.Operation != api.Create {
		return nil
	}
	if s := csr.Spec.SignerName; s != certificatesv1.KubeletServingSignerName && s != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return n.forbid("unable to parse csr: PEM block type must be CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return n.forbid("unable to parse csr: %w", err)
	}
	if own := auth.NodeUserPrefix + n.node; request.Subject.CommonName != own {
		return n.forbid("can only create a node CSR with CN=%s", own)
	}
	return nil
}

// slices lets a node say which devices are its own, never those of others.
func (n restricted) slices() error {
	for _, obj := range []api.Object{n.request.Object, n.request.Old} {
		slice, ok := obj.(*resourcev1.ResourceSlice)
		if ok && (slice.Spec.NodeName == nil || *slice.Spec.NodeName != n.node) {
			if n.request.Operation == api.Create {
				return n.forbid("can only create ResourceSlice with the same NodeName as the requesting node")
			}
			return n.forbid("can only delete ResourceSlice with the same NodeName as the requesting node")
		}
	}
	return nil
}

// claims lets a node report how large the volume of a claim has become.
func (n restricted) claims() error {
	r := n.request
	now, ok := r.Object.(*corev1.PersistentVolumeClaim)
	before, had := r.Old.(*corev1.PersistentVolumeClaim)
	if r.Subresource != "status" || !ok || !had {
		return n.forbid("may only update PVC status")
	}
	without := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c = c.DeepCopy()
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
		return c
	}
	if !apiequality.Semantic.DeepEqual(without(now), without(before)) {
		return n.refuse("is not allowed to update fields other than status.quantity and status.conditions")
	}
	return nil
}

func (n restricted) nodes() error {
	r := n.request
	if r.Key.Name != n.node {
		return n.refuse("is not allowed to modify node %q", r.Key.Name)
	}
	node, _ := r.Object.(*corev1.Node)
	old, _ := r.Old.(*corev1.Node)
	switch {
	case node == nil:
		return nil
	case old == nil:
		old = &corev1.Node{}
	case !apiequality.Semantic.DeepEqual(node.Spec.Taints, old.Spec.Taints):
		return n.refuse("is not allowed to modify taints")
	case !apiequality.Semantic.DeepEqual(node.OwnerReferences, old.OwnerReferences):
		return n.refuse("is not allowed to modify ownerReferences")
	}
	var forbidden []string
	for key := range joinedKeys(node.Labels, old.Labels) {
		now, has := node.Labels[key]
		before, had := old.Labels[key]
		if (now != before || has != had) && !mayLabel(key) {
			forbidden = append(forbidden, key)
		}
	}
	if len(forbidden) > 0 {
		slices.Sort(forbidden)
		if r.Operation == api.Create {
			return n.refuse("is not allowed to set the following labels: %s", strings.Join(forbidden, ", "))
		}
		return n.forbid("is not allowed to modify labels: %s", strings.Join(forbidden, ", "))
	}
	return nil
}

func joinedKeys(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// nodeLabels are the labels of Kubernetes' own domains that a node may set.
var nodeLabels = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone,
	corev1.LabelFailureDomainBetaRegion, corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable,
	"beta.kubernetes.io/os", "beta.kubernetes.io/arch", corev1.LabelWindowsBuild,
}

// mayLabel tells whether a node may set a label on itself: anything outside of
// Kubernetes' domains, and what is a kubelet's to say.
func mayLabel(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	within := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	if within("node-restriction.kubernetes.io") {
		return false
	}
	if !within("kubernetes.io") && !within("k8s.io") {
		return true
	}
	return slices.Contains(nodeLabels, key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}
